"""The sentence about money that ends every error of a request that could order, and the error of every failed job.

No other part of a message mentions a charge. The error handler appends it, so no error can lack it.
"""

from providers.faults import ChargeStatus

NOT_CHARGED = "You were not charged."
# The request has a job, which continues or has delivered images.
CHARGED_IF_DELIVERED = "You are charged only for delivered images."
# The sentence of a failed job, by whether a seller charged for one of its orders.
SENTENCES_OF_FAILED_JOBS = {
    ChargeStatus.NOT_CHARGED: NOT_CHARGED,
    ChargeStatus.UNKNOWN: "The seller may have been paid; you were not charged.",
    ChargeStatus.CHARGED: "The seller was paid; you were not charged.",
}
CHARGE_SENTENCES = (CHARGED_IF_DELIVERED, *SENTENCES_OF_FAILED_JOBS.values())
