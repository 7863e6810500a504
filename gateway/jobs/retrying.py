"""Sellers that took no order and said when to ask again: when a retry is worth it, and the answer to clients."""

from math import ceil, isfinite

from msgspec.structs import replace

from gateway.jobs.job import Job, Part, RetryTime, stamp
from providers.faults import VERDICTS, Bought, FaultKind

# The shortest and longest wait that a client is asked for, whatever a seller says.
MIN_SECONDS, MAX_SECONDS = 1, 120
# Beyond a day a seller has not said when.
MAX_RETRY_AFTER = 86_400.0


def with_retry_time(job: Job, attempt: int, kind: FaultKind, retry_after: float | None, now: float) -> Job:
    """The job that remembers when the seller wants to be asked again: one that surely did not take the order."""
    verdict = VERDICTS[kind]
    if retry_after is None or not isfinite(retry_after) or verdict.bought is not Bought.NO or not verdict.passes:
        return job
    at = stamp(now + min(max(retry_after, 0.0), MAX_RETRY_AFTER))
    return replace(job, retry_times=(*job.retry_times, RetryTime(attempt, at)))


def retries_of(job: Job, part: Part) -> tuple[tuple[int, float], ...]:
    """Places that were tried for a part's images and may be tried once more, each with the moment; soonest first.

    The last try of a place counts, and only if its seller takes the order in time.
    """
    asked = {retry.attempt: retry.at for retry in job.retry_times}
    last = {one.place: one.number for one in job.attempts if not one.is_open and set(one.images) & set(part.images)}
    found = ((place, asked[last[place]]) for place in dict.fromkeys(part.tried) if last.get(place) in asked)
    return tuple(sorted((one for one in found if one[1] < job.deadline), key=lambda one: one[1]))


def may_retry(job: Job, part: Part, place: int, now: float) -> bool:
    return any(place == other and now >= at for other, at in retries_of(job, part))


def retry_after_of(job: Job) -> int | None:
    """For the caller of a job that has ended: in how many seconds a seller takes orders; None if none said so."""
    if not job.retry_times or job.finished is None:
        return None
    left = min(retry.at for retry in job.retry_times) - job.finished
    return min(max(ceil(left), MIN_SECONDS), MAX_SECONDS)
