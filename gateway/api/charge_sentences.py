"""The sentence about money that ends every error of a request that could order, and the error of every failed job.

No other part of a message mentions a charge. The handler of errors appends the sentence, so that none lacks it.
"""

from providers.faults import ChargeStatus

NOT_CHARGED = "You were not charged."
# The request has a job that continues, or that has delivered.
CHARGED_IF_DELIVERED = "You are charged only for delivered images."
# By whether a seller charged for an order of the failed job.
SENTENCES_OF_FAILED_JOBS = {
    ChargeStatus.NOT_CHARGED: NOT_CHARGED,
    ChargeStatus.UNKNOWN: "The seller may have been paid; you were not charged.",
    ChargeStatus.CHARGED: "The seller was paid; you were not charged.",
}
CHARGE_SENTENCES = (CHARGED_IF_DELIVERED, *SENTENCES_OF_FAILED_JOBS.values())
