"""How a job failed that delivered no image: what was bought for it, and whether the same request again is right.

Everything that answers for such a job asks here: the API, and the store's memory of who asked for what.
"""

from msgspec import Struct

from gateway.jobs.costs import get_charge_status
from gateway.jobs.job import Attempt, Job, JobState
from gateway.jobs.retry_times import get_retry_after
from providers.faults import VERDICTS, ChargeStatus, FaultKind

_CERTAINTY_ORDER = (ChargeStatus.NOT_CHARGED, ChargeStatus.UNKNOWN, ChargeStatus.CHARGED)


class JobFailure(Struct, frozen=True):
    """`charge_status`: over all attempts of the job, whatever the last one ended with. `fault`: that of the attempt which says
    so, or of the images that no seller took; None where no order was at fault.

    `retry_after`: in how many seconds a seller says that it takes orders; None if none said so.

    `is_safe_to_retry`: nothing was bought, and the same request may end better in a while. Clients that repeat by
    themselves would buy twice, or fail again, in every other case.
    """

    state: JobState
    charge_status: ChargeStatus
    fault: FaultKind | None
    is_safe_to_retry: bool
    retry_after: int | None = None


def classify_failure(job: Job) -> JobFailure:
    """For a job that has ended without an image."""
    charge_status = max(
        (_attempt_charge_status(attempt) for attempt in job.attempts),
        key=_CERTAINTY_ORDER.index,
        default=ChargeStatus.NOT_CHARGED,
    )
    is_safe = charge_status is ChargeStatus.NOT_CHARGED and _is_temporary(job)
    return JobFailure(
        job.state,
        charge_status,
        _reported_fault(job, charge_status),
        is_safe,
        get_retry_after(job) if is_safe else None,
    )


def is_safe_to_retry(job: Job) -> bool:
    """Whether a repeated request must get a new job: this one delivered nothing, and nothing was bought."""
    return job.state.is_terminal and not job.delivered_images and classify_failure(job).is_safe_to_retry


def may_have_been_charged(job: Job) -> bool:
    """Whether it ended for its team without an image, and an order of it may have been taken."""
    if not job.state.is_terminal or job.state is JobState.CANCELLED or job.delivered_images:
        return False
    return classify_failure(job).charge_status is ChargeStatus.UNKNOWN


def _attempt_charge_status(attempt: Attempt) -> ChargeStatus:
    """An order that is still open, or was corrected after its end, is judged by what is known of it now."""
    if attempt.orphaned_amount or attempt.delivered_count or (attempt.is_open and attempt.images_ready):
        return ChargeStatus.CHARGED
    if attempt.is_open or attempt.fault is None:
        return ChargeStatus.UNKNOWN
    return get_charge_status(attempt.fault, attempt.cost)


def _reported_fault(job: Job, charge_status: ChargeStatus) -> FaultKind | None:
    """A refusal of the content comes first: the team has to change its request, whatever else happened."""
    if charge_status is ChargeStatus.NOT_CHARGED or job.fault is FaultKind.CONTENT_REFUSED:
        return job.fault
    return next(attempt.fault for attempt in reversed(job.attempts) if _attempt_charge_status(attempt) is charge_status)


def _is_temporary(job: Job) -> bool:
    """A job that the deadline ended before any order was at fault has only waited too long."""
    if job.state is JobState.CANCELLED:
        return job.withdrawn
    if job.fault is None:
        return job.state is JobState.EXPIRED
    return VERDICTS[job.fault].is_transient
