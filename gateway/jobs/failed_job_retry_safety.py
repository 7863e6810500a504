"""Classifies a job that delivered no image: whether it was charged, and whether a retry is safe.

Used by the API and by the idempotency records of the store.
"""

from msgspec import Struct

from gateway.jobs.attempt_costs import get_charge_status
from gateway.jobs.job import Attempt, Job, JobState
from gateway.jobs.seller_retry_times import get_retry_after
from gateway.timeouts_and_intervals import DEFAULT_JOB_TIMING
from providers.faults import CONTENT_FAULTS, VERDICTS, ChargeStatus, FaultKind

_CERTAINTY_ORDER = (ChargeStatus.NOT_CHARGED, ChargeStatus.UNKNOWN, ChargeStatus.CHARGED)


class JobFailure(Struct, frozen=True):
    """Why a job delivered no image.

    `charge_status`: over all attempts. `fault`: of the attempt that determines it, or of the images that no seller
    accepted; None if no order failed. `retry_after`: seconds until a seller may accept orders. `is_safe_to_retry`:
    nothing was charged and the same request may succeed later.
    """

    state: JobState
    charge_status: ChargeStatus
    fault: FaultKind | None
    is_safe_to_retry: bool
    retry_after: int = DEFAULT_JOB_TIMING.retry_after_seconds


def classify_failure(job: Job) -> JobFailure:
    """Classifies a job that has ended without an image."""
    charge_status = max(
        (_attempt_charge_status(attempt) for attempt in job.attempts),
        key=_CERTAINTY_ORDER.index,
        default=ChargeStatus.NOT_CHARGED,
    )
    is_safe = charge_status is ChargeStatus.NOT_CHARGED and _may_succeed_on_retry(job)
    return JobFailure(
        job.state,
        charge_status,
        _reported_fault(job, charge_status),
        is_safe,
        get_retry_after(job) or job.timing.retry_after_seconds,
    )


def is_safe_to_retry(job: Job) -> bool:
    """Returns whether a repeated request must get a new job: this one delivered no image and was not charged."""
    return job.state.is_terminal and not job.delivered_images and classify_failure(job).is_safe_to_retry


def may_have_been_charged(job: Job) -> bool:
    """Returns whether a job ended without an image and an order of it may have been charged."""
    if not job.state.is_terminal or job.state is JobState.CANCELLED or job.delivered_images:
        return False
    return classify_failure(job).charge_status is ChargeStatus.UNKNOWN


def _attempt_charge_status(attempt: Attempt) -> ChargeStatus:
    """Returns whether the attempt was charged, as far as it is known now. Open attempts may change it later."""
    if attempt.orphaned_amount or attempt.delivered_count or (attempt.state.is_open and attempt.images_ready):
        return ChargeStatus.CHARGED
    if attempt.state.is_open or attempt.fault is None:
        return ChargeStatus.UNKNOWN
    return get_charge_status(attempt.fault, attempt.cost)


def _reported_fault(job: Job, charge_status: ChargeStatus) -> FaultKind | None:
    """Returns the fault that the client sees. A content refusal comes first, since the team has to change its
    request."""
    if charge_status is ChargeStatus.NOT_CHARGED or job.fault in CONTENT_FAULTS:
        return job.fault
    return next(attempt.fault for attempt in reversed(job.attempts) if _attempt_charge_status(attempt) is charge_status)


def _may_succeed_on_retry(job: Job) -> bool:
    """Returns whether a retry may succeed. A job that expired before any order failed has only waited too long."""
    if job.state is JobState.CANCELLED:
        return job.is_withdrawn
    if job.fault is None:
        return job.state is JobState.EXPIRED
    return VERDICTS[job.fault].is_transient
