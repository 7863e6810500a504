"""Every transition there is, and why it happens, as data. `docs/states.md` is drawn from these tables."""

from enum import StrEnum

from gateway.jobs.job import AttemptState, PartState, State
from providers.faults import Bought, Then

Moves = dict[tuple[StrEnum | None, StrEnum], str]

# fmt: off
JOB_MOVES: Moves = {
    (None,              State.QUEUED):      "accepted",
    (State.QUEUED,      State.IN_PROGRESS): "an attempt is opened",
    (State.QUEUED,      State.CANCELLED):   "cancelled before anything was bought, or withdrawn",
    (State.QUEUED,      State.FAILED):      "no seller is left, or its workers crashed early too often",
    (State.QUEUED,      State.EXPIRED):     "the deadline is over",
    (State.IN_PROGRESS, State.COMPLETED):   "all parts have ended, some images are delivered",
    (State.IN_PROGRESS, State.FAILED):      "all parts have ended, no image is delivered",
    (State.IN_PROGRESS, State.CANCELLED):   "cancel was asked, and all parts have ended",
    (State.IN_PROGRESS, State.EXPIRED):     "the deadline is over, no image is delivered",
}

PART_MOVES: Moves = {
    (None,              PartState.WAITING):   "accepted, or split from another part",
    (PartState.WAITING, PartState.BUYING):    "an attempt is opened",
    (PartState.WAITING, PartState.FAILED):    "no seller is left, the deadline is over, or the job is abandoned",
    (PartState.WAITING, PartState.DROPPED):   "cancel was asked, or the job is withdrawn",
    (PartState.BUYING,  PartState.DELIVERED): "its images lie in our store",
    (PartState.BUYING,  PartState.WAITING):   "the attempt ended without these images, and another may be tried",
    (PartState.BUYING,  PartState.FAILED):    "the attempt ended and no other may be tried, or the deadline is over",
    (PartState.BUYING,  PartState.DROPPED):   "the attempt ended without these images, and cancel was asked",
}

ATTEMPT_MOVES: Moves = {
    (None,                  AttemptState.OPENED):   "saved before anything is sent",
    (AttemptState.OPENED,   AttemptState.TICKETED): "the seller's ticket is known",
    (AttemptState.OPENED,   AttemptState.CLOSED):   "refused, delivered at once, or not traced in time",
    (AttemptState.TICKETED, AttemptState.CLOSED):   "delivered, failed, or overdue",
}
# fmt: on


class Line(StrEnum):
    """Where a ledger entry's money went: to the team's images, or nowhere, or perhaps nowhere; or it was billed for the
    team's images beyond what was set aside for them. Only a capture is the team's to pay."""

    CAPTURE = "capture"
    ORPHAN = "orphan"
    SUSPECTED = "suspected"
    EXCESS = "excess"


# What is booked when an attempt ends without pictures for anybody.
BOOKED_AS: dict[Bought, Line | None] = {
    Bought.NO: None,
    Bought.PERHAPS: Line.SUSPECTED,
    Bought.YES: Line.ORPHAN,
}


def part_after(then: Then, reorder: bool) -> PartState:
    """What an attempt's end makes of the images that it did not deliver, if more tries are allowed."""
    if then is Then.FAIL_OVER or (then is Then.STOP and reorder):
        return PartState.WAITING
    return PartState.FAILED
