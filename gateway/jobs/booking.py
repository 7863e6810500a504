"""What an attempt cost whom: what the seller says it charged, else the price.

Captured for images that are delivered, an orphan where they are not, suspected where nobody knows whether they were
bought. Delivered images cost the team no more than was set aside for them: the rest is excess.
"""

from msgspec.structs import replace

from gateway.jobs.job import Attempt, AttemptState, Job, stamp
from gateway.jobs.tables import BOOKED_AS, Line
from providers.faults import VERDICTS, Bought, FaultKind

Booking = tuple[Line | None, int]
# Ten million dollars: what a seller says beyond that is no price, and would not fit into any sum.
MOST_COST = 10**13


def ended(attempt: Attempt, kind: FaultKind | None, cost: int | None, now: float, booking: Booking) -> Attempt:
    """The attempt, closed, with what is booked for pictures that nobody gets."""
    closed = replace(attempt, state=AttemptState.CLOSED, closed=stamp(now), lost=None, links=(), cost=cost, fault=kind)
    return on(closed, booking)


def on(attempt: Attempt, booking: Booking) -> Attempt:
    line, amount = booking
    orphaned, suspected = (amount if line is one else 0 for one in (Line.ORPHAN, Line.SUSPECTED))
    return replace(attempt, orphaned=orphaned, suspected=suspected)


def booked(job: Job, attempt: Attempt, kind: FaultKind, cost: int | None) -> Booking:
    line = BOOKED_AS[bought(kind, cost)]
    return (line, paid(job, attempt, cost)) if line else (None, 0)


def bought(kind: FaultKind, cost: int | None) -> Bought:
    """What the seller says it charged outranks what usually follows from a fault of this kind."""
    return Bought.YES if cost and cost > 0 else VERDICTS[kind].bought


def paid(job: Job, attempt: Attempt, cost: int | None, made: int | None = None) -> int:
    """What the seller says, if it says anything; else the price of what it made, or was asked to make."""
    if cost is not None:
        return min(max(cost, 0), MOST_COST)
    place, images = job.place_of(attempt), len(attempt.images) if made is None else max(made, 0)
    return place.price * images + (job.order_price(attempt.place) if images else 0)
