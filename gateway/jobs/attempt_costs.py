"""Costs of an attempt and how they are booked.

capture: delivered images; orphan: charged but not delivered; suspected: possibly charged; excess: charged beyond the
hold. Teams pay at most the amount that was held.
"""

from msgspec.structs import replace

from gateway.jobs.job import Attempt, AttemptState, Job, round_timestamp
from gateway.jobs.transition_tables import LEDGER_LINE_BY_CHARGE, LedgerLine
from providers.faults import VERDICTS, ChargeStatus, FaultKind

Booking = tuple[LedgerLine | None, int]
# Ten million dollars. A higher reported cost is an error of the seller, and would overflow sums.
MAX_COST_MICROS = 10**13


def close_attempt(attempt: Attempt, fault: FaultKind | None, cost: int | None, now: float, booking: Booking) -> Attempt:
    """Closes an attempt and books its cost as not delivered.

    It never ends before it began, although the clock of the replica that began it may be ahead.
    """
    closed_attempt = replace(
        attempt,
        state=AttemptState.CLOSED,
        closed_at=max(attempt.started_at, round_timestamp(now)),
        response_lost_at=None,
        image_urls=(),
        cost=cost,
        fault=fault,
    )
    return set_booking(closed_attempt, booking)


def set_booking(attempt: Attempt, booking: Booking) -> Attempt:
    line, amount = booking
    return replace(
        attempt,
        orphaned_amount=amount if line is LedgerLine.ORPHAN else 0,
        suspected_amount=amount if line is LedgerLine.SUSPECTED else 0,
    )


def compute_booking(job: Job, attempt: Attempt, fault: FaultKind, cost: int | None) -> Booking:
    line = LEDGER_LINE_BY_CHARGE[get_charge_status(fault, cost)]
    return (line, attempt_cost(job, attempt, cost)) if line else (None, 0)


def get_charge_status(fault: FaultKind, cost: int | None) -> ChargeStatus:
    """Returns whether the seller charged. A reported cost outranks the usual meaning of this fault."""
    return ChargeStatus.CHARGED if cost and cost > 0 else VERDICTS[fault].charge_status


def attempt_cost(job: Job, attempt: Attempt, cost: int | None, made_count: int | None = None) -> int:
    """Returns the cost that the seller reported, otherwise the price of the images it made, or was ordered."""
    if cost is not None:
        return min(max(cost, 0), MAX_COST_MICROS)
    image_count = len(attempt.images) if made_count is None else max(made_count, 0)
    order_price = job.get_order_price(attempt.route_index) if image_count else 0
    return job.route[attempt.route_index].price * image_count + order_price
