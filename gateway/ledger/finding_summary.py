"""Summaries of the findings of a reconciliation. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from gateway.ledger.reconciliation import OrderFinding, ReconciliationOutcome

# The outcomes of charges whose order is known. An incomplete invoice may be of an unknown one.
_MATCHING_OUTCOMES = {
    ReconciliationOutcome.MATCHED,
    ReconciliationOutcome.SUSPECTED_CHARGED,
    ReconciliationOutcome.PRICE_DIFFERS,
    ReconciliationOutcome.IN_PROGRESS,
}


def has_no_match(findings: Collection[OrderFinding]) -> bool:
    """Returns whether there are charges, and the ledger has an order of none of them."""
    is_missing = any(finding.outcome is ReconciliationOutcome.MISSING_HERE for finding in findings)
    return is_missing and not any(
        finding.outcome in _MATCHING_OUTCOMES or (finding.charged and (finding.booked or finding.suspected))
        for finding in findings
    )


def count_outcomes(findings: Iterable[OrderFinding]) -> Mapping[ReconciliationOutcome, int]:
    return Counter(finding.outcome for finding in findings)
