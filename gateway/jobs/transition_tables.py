"""State machine of jobs, parts and attempts: all transitions with their reasons, as data.

`docs/states.md` is generated from these tables.
"""

from enum import StrEnum

from gateway.jobs.job import AttemptState, JobState, PartState
from providers.faults import ChargeStatus, PartConsequence

TransitionTable = dict[tuple[StrEnum | None, StrEnum], str]

# fmt: off
JOB_TRANSITIONS: TransitionTable = {
    (None,                 JobState.QUEUED):      "created",
    (JobState.QUEUED,      JobState.IN_PROGRESS): "an attempt is started",
    (JobState.QUEUED,      JobState.CANCELLED):   "cancelled before anything was ordered, or withdrawn",
    (JobState.QUEUED,      JobState.FAILED):      "no seller is left, or its workers crashed repeatedly",
    (JobState.QUEUED,      JobState.EXPIRED):     "the deadline has passed",
    (JobState.IN_PROGRESS, JobState.COMPLETED):   "all parts ended, at least one image is delivered",
    (JobState.IN_PROGRESS, JobState.FAILED):      "all parts ended, no image is delivered",
    (JobState.IN_PROGRESS, JobState.CANCELLED):   "cancellation was requested, and all parts ended",
    (JobState.IN_PROGRESS, JobState.EXPIRED):     "the deadline has passed, no image is delivered",
}

PART_TRANSITIONS: TransitionTable = {
    (None,              PartState.WAITING):   "created, or split from another part",
    (PartState.WAITING, PartState.BUYING):    "an attempt is started",
    (PartState.WAITING, PartState.FAILED):    "no seller is left, the deadline has passed, or the job is abandoned",
    (PartState.WAITING, PartState.DROPPED):   "cancellation was requested, or the job is withdrawn",
    (PartState.BUYING,  PartState.DELIVERED): "its images are stored",
    (PartState.BUYING,  PartState.WAITING):   "the attempt ended without these images, and another is allowed",
    (PartState.BUYING,  PartState.FAILED):    "the attempt ended and no other is allowed, or the deadline has passed",
    (PartState.BUYING,  PartState.DROPPED):   "the attempt ended without these images, and cancellation was requested",
}

ATTEMPT_TRANSITIONS: TransitionTable = {
    (None,                  AttemptState.OPENED):   "stored before the order is sent",
    (AttemptState.OPENED,   AttemptState.TICKETED): "the seller's ticket was received",
    (AttemptState.OPENED,   AttemptState.CLOSED):   "rejected, delivered at once, or not found in time",
    (AttemptState.TICKETED, AttemptState.CLOSED):   "delivered, failed, or timed out",
}
# fmt: on


class LedgerLine(StrEnum):
    """Ledger line of an amount. Teams pay captures only.

    capture: delivered images; orphan: charged, not delivered; suspected: possibly charged; excess: charged beyond the
    hold. failed: ordered at a canary, neither delivered nor charged: always 0, for its number of images.
    """

    CAPTURE = "capture"
    ORPHAN = "orphan"
    SUSPECTED = "suspected"
    EXCESS = "excess"
    FAILED = "failed"


# Line that is booked when an attempt ends without images.
LEDGER_LINE_BY_CHARGE: dict[ChargeStatus, LedgerLine | None] = {
    ChargeStatus.NOT_CHARGED: None,
    ChargeStatus.UNKNOWN: LedgerLine.SUSPECTED,
    ChargeStatus.CHARGED: LedgerLine.ORPHAN,
}


def part_state_after(then: PartConsequence, reorder: bool) -> PartState:
    """Returns the state of the images that an ended attempt did not deliver, if more attempts are allowed."""
    if then is PartConsequence.FAIL_OVER or (then is PartConsequence.STOP and reorder):
        return PartState.WAITING
    return PartState.FAILED
