"""Every transition there is, and why it happens, as data. `docs/states.md` is drawn from these tables."""

from enum import StrEnum

from gateway.jobs.job import AttemptState, JobState, PartState
from providers.faults import ChargeStatus, PartConsequence

TransitionTable = dict[tuple[StrEnum | None, StrEnum], str]

# fmt: off
JOB_TRANSITIONS: TransitionTable = {
    (None,              JobState.QUEUED):      "accepted",
    (JobState.QUEUED,      JobState.IN_PROGRESS): "an attempt is opened",
    (JobState.QUEUED,      JobState.CANCELLED):   "cancelled before anything was bought, or withdrawn",
    (JobState.QUEUED,      JobState.FAILED):      "no seller is left, or its workers crashed early too often",
    (JobState.QUEUED,      JobState.EXPIRED):     "the deadline is over",
    (JobState.IN_PROGRESS, JobState.COMPLETED):   "all parts have ended, some images are delivered",
    (JobState.IN_PROGRESS, JobState.FAILED):      "all parts have ended, no image is delivered",
    (JobState.IN_PROGRESS, JobState.CANCELLED):   "cancel was asked, and all parts have ended",
    (JobState.IN_PROGRESS, JobState.EXPIRED):     "the deadline is over, no image is delivered",
}

PART_TRANSITIONS: TransitionTable = {
    (None,              PartState.WAITING):   "accepted, or split from another part",
    (PartState.WAITING, PartState.BUYING):    "an attempt is opened",
    (PartState.WAITING, PartState.FAILED):    "no seller is left, the deadline is over, or the job is abandoned",
    (PartState.WAITING, PartState.DROPPED):   "cancel was asked, or the job is withdrawn",
    (PartState.BUYING,  PartState.DELIVERED): "its images lie in our store",
    (PartState.BUYING,  PartState.WAITING):   "the attempt ended without these images, and another may be tried",
    (PartState.BUYING,  PartState.FAILED):    "the attempt ended and no other may be tried, or the deadline is over",
    (PartState.BUYING,  PartState.DROPPED):   "the attempt ended without these images, and cancel was asked",
}

ATTEMPT_TRANSITIONS: TransitionTable = {
    (None,                  AttemptState.OPENED):   "saved before anything is sent",
    (AttemptState.OPENED,   AttemptState.TICKETED): "the seller's ticket is known",
    (AttemptState.OPENED,   AttemptState.CLOSED):   "refused, delivered at once, or not traced in time",
    (AttemptState.TICKETED, AttemptState.CLOSED):   "delivered, failed, or overdue",
}
# fmt: on


class LedgerLine(StrEnum):
    """Where a ledger entry's money went: to the team's images, or nowhere, or perhaps nowhere; or it was billed for the
    team's images beyond what was set aside for them. Only a capture is the team's to pay."""

    CAPTURE = "capture"
    ORPHAN = "orphan"
    SUSPECTED = "suspected"
    EXCESS = "excess"


# What is booked when an attempt ends without pictures for anybody.
LEDGER_LINE_BY_CHARGE: dict[ChargeStatus, LedgerLine | None] = {
    ChargeStatus.NOT_CHARGED: None,
    ChargeStatus.UNKNOWN: LedgerLine.SUSPECTED,
    ChargeStatus.CHARGED: LedgerLine.ORPHAN,
}


def part_state_after(then: PartConsequence, reorder: bool) -> PartState:
    """What an attempt's end makes of the images that it did not deliver, if more tries are allowed."""
    if then is PartConsequence.FAIL_OVER or (then is PartConsequence.STOP and reorder):
        return PartState.WAITING
    return PartState.FAILED
