"""Retry times of sellers that rejected an order and said when to retry."""

from math import ceil, isfinite

from msgspec.structs import replace

from gateway.jobs.job import Job, Part, RetryTime, round_timestamp
from providers.faults import VERDICTS, ChargeStatus, FaultKind

# Bounds of the Retry-After that clients receive.
MIN_CLIENT_WAIT_SECONDS, MAX_CLIENT_WAIT_SECONDS = 1, 120
# A longer Retry-After of a seller is cut to a day.
MAX_RETRY_AFTER_SECONDS = 86_400.0


def add_retry_time(job: Job, attempt: int, fault: FaultKind, retry_after: float | None, now: float) -> Job:
    """Records a seller's retry time. Ignored unless the fault is temporary and proves that nothing was charged."""
    verdict = VERDICTS[fault]
    if (
        retry_after is None
        or not isfinite(retry_after)
        or verdict.charge_status is not ChargeStatus.NOT_CHARGED
        or not verdict.is_transient
    ):
        return job
    retry_at = round_timestamp(now + min(max(retry_after, 0.0), MAX_RETRY_AFTER_SECONDS))
    return replace(job, retry_times=(*job.retry_times, RetryTime(attempt, retry_at)))


def list_retries(job: Job, part: Part) -> tuple[tuple[int, float], ...]:
    """Returns the tried route entries that may be retried once, with their times; soonest first.

    Only the last attempt at an entry counts, and only times before the job's deadline.
    """
    if not job.retry_times:
        return ()
    retry_times = {retry.attempt: retry.retry_at for retry in job.retry_times}
    last_attempts = {
        candidate.route_index: candidate.number
        for candidate in job.attempts
        if not candidate.state.is_open and set(candidate.images) & set(part.images)
    }
    retries = (
        (route_index, retry_times[last_attempts[route_index]])
        for route_index in dict.fromkeys(part.tried_indexes)
        if last_attempts.get(route_index) in retry_times
    )
    return tuple(
        sorted((candidate for candidate in retries if candidate[1] < job.deadline), key=lambda candidate: candidate[1])
    )


def can_retry(job: Job, part: Part, route_index: int, now: float) -> bool:
    return any(route_index == other and now >= retry_at for other, retry_at in list_retries(job, part))


def get_retry_after(job: Job) -> int | None:
    """Returns the Retry-After in seconds for the client of a job that ended; None if no seller gave a time."""
    if not job.retry_times or job.finished_at is None:
        return None
    remaining = min(retry.retry_at for retry in job.retry_times) - job.finished_at
    return min(max(ceil(remaining), MIN_CLIENT_WAIT_SECONDS), MAX_CLIENT_WAIT_SECONDS)
