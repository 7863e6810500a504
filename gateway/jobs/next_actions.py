"""Derives the next actions of a job from its saved state alone: orders, polling, expiry and crash recovery.

The worker of a job and a worker that reclaims it use the same function.
"""

from collections.abc import Iterator

from msgspec import Struct

from gateway.jobs.job import Attempt, Job, Part, PartState, RecoveryMethod
from gateway.jobs.seller_retry_times import list_retries
from providers.faults import FaultKind

# A job is abandoned after this many claims in a row without progress. Its first workers also ran other jobs, any of
# which may have crashed them; the last ones ran it alone, so this job is the cause. A worker that renews the lease
# once, or releases the job, did not crash because of it.
MAX_RECLAIMS_WITHOUT_PROGRESS = 6


class JobAction(Struct, frozen=True, kw_only=True):
    """An action that the job worker has to take."""


class SubmitOrder(JobAction, frozen=True, kw_only=True):
    """Start an attempt for these images at one of the route entries, best first; abandon them if none accepts.

    Before that come `retries`: entries whose seller rejected the order and said when to retry.
    """

    images: tuple[int, ...]
    route_indexes: tuple[int, ...]
    retries: tuple[tuple[int, float], ...] = ()


class AttemptAction(JobAction, frozen=True, kw_only=True):
    """An action for one attempt."""

    attempt: int


class OngoingAction(AttemptAction, frozen=True, kw_only=True):
    """An action for one attempt that continues until this time."""

    until: float


class ResendOrder(OngoingAction, frozen=True, kw_only=True):
    """Send the same bytes with the same idempotency key again: the seller guarantees that it charges once."""


class SearchOrder(OngoingAction, frozen=True, kw_only=True):
    """Search for the order by its reference."""


class AwaitCallback(OngoingAction, frozen=True, kw_only=True):
    """Wait for a callback, the only evidence of this order."""


class AwaitPreviousWorker(OngoingAction, frozen=True, kw_only=True):
    """Wait for the previous worker, which may still run and receive the response."""


class PollOrder(OngoingAction, frozen=True, kw_only=True):
    """Poll the order's status."""

    ticket: str


class FetchImages(AttemptAction, frozen=True, kw_only=True):
    """Fetch the images from these URLs."""

    image_urls: tuple[str, ...]


class MarkResponseLost(AttemptAction, frozen=True, kw_only=True):
    """The worker that sent this order is gone: record that its response is lost (`ResponseLost`)."""


class AbandonAttempt(AttemptAction, frozen=True, kw_only=True):
    """Stop waiting for this order (`AttemptAbandoned`)."""

    fault: FaultKind


class AbandonLostImages(AbandonAttempt, frozen=True, kw_only=True):
    """The images came with a response that is lost. Ignored while a task of this replica still handles the attempt."""


class AwaitClient(JobAction, frozen=True, kw_only=True):
    """Wait for a repeated request (`JobConfirmed`): the client may have received an error instead of the job."""

    until: float


class WithdrawJob(JobAction, frozen=True, kw_only=True):
    """The client did not repeat the request in time: withdraw the job (`JobWithdrawn`)."""


class ExpireJob(JobAction, frozen=True, kw_only=True):
    """The deadline has passed (`JobExpired`)."""


class AbandonJob(JobAction, frozen=True, kw_only=True):
    """The last workers crashed with this job: order nothing more (`JobAbandoned`)."""


class PreviousWorker(Struct, frozen=True, kw_only=True):
    """The previous worker: until when its updates are awaited, and for how many attempts it may have any."""

    until: float = 0.0
    attempt_count: int = 0


NO_PREVIOUS_WORKER = PreviousWorker()


def derive_actions(
    job: Job,
    now: float,
    reclaims: int = 0,
    previous_worker: PreviousWorker = NO_PREVIOUS_WORKER,
    is_created_here: bool = False,
) -> tuple[JobAction, ...]:
    """Derives the actions of a worker that has only the saved job. Pure. Any saved job has a result; () if it is
    settled.

    A worker calls this after each change and skips actions that already run. Time may have passed without a worker: a
    new worker polls each order once, if it can be polled, before it follows an ExpireJob or an AbandonAttempt.
    `is_created_here`: the store confirmed to this worker that it created the job. Any other worker waits for the
    client, which may have received an error instead of the job.
    """
    if job.is_settled:
        return ()
    if not (is_created_here or job.is_confirmed or job.state.is_terminal):
        return (WithdrawJob(),) if now >= job.confirmation_deadline else (AwaitClient(until=job.confirmation_deadline),)
    if reclaims >= MAX_RECLAIMS_WITHOUT_PROGRESS and not (job.is_abandoned or job.state.is_terminal):
        return (AbandonJob(),)
    return tuple(_derive_job_actions(job, now, previous_worker))


def _derive_job_actions(job: Job, now: float, previous_worker: PreviousWorker) -> Iterator[JobAction]:
    if not job.state.is_terminal and not job.is_overdue and now >= job.deadline:
        yield ExpireJob()
        return
    for attempt in job.attempts:
        if attempt.state.is_open:
            action = _derive_attempt_action(job, attempt, now)
            yield (
                AwaitPreviousWorker(attempt=attempt.number, until=previous_worker.until)
                if _is_premature(job, action, now, previous_worker)
                else action
            )
    for part in job.parts:
        if part.state is PartState.WAITING:
            yield SubmitOrder(
                images=part.images, route_indexes=_list_untried_indexes(job, part), retries=list_retries(job, part)
            )


def _list_untried_indexes(job: Job, part: Part) -> tuple[int, ...]:
    """Lists the route entries that were not tried for this part, best first. A part of a split job begins at an entry
    of its own."""
    own_index = job.get_split_index(part)
    indexes = (own_index, *[index for index in range(len(job.route)) if index != own_index])
    return tuple([index for index in indexes if index not in part.tried_indexes])


def _is_premature(job: Job, action: JobAction, now: float, previous_worker: PreviousWorker) -> bool:
    """Returns whether an order would be abandoned too early, while the previous worker may have its ticket.

    Its lease may have expired only because it was paused, or could not reach the store.
    """
    if (
        not isinstance(action, AbandonAttempt)
        or action.attempt > previous_worker.attempt_count
        or now >= previous_worker.until
    ):
        return False
    return now < attempt_deadline(job, job.attempts[action.attempt - 1])


def _derive_attempt_action(job: Job, attempt: Attempt, now: float) -> JobAction:
    entry, until = job.route[attempt.route_index], attempt_deadline(job, attempt)
    if now >= until and (attempt.images_ready or job.can_poll(attempt)):
        return AbandonAttempt(
            attempt=attempt.number,
            fault=FaultKind.IMAGES_EXPIRED if attempt.images_ready else FaultKind.ORDER_TIMED_OUT,
        )
    if attempt.images_ready and attempt.image_urls:
        return FetchImages(attempt=attempt.number, image_urls=attempt.image_urls)
    if attempt.ticket is not None and entry.is_pollable:
        return PollOrder(attempt=attempt.number, ticket=attempt.ticket, until=until)
    if attempt.images_ready:
        return AbandonLostImages(attempt=attempt.number, fault=FaultKind.IMAGES_EXPIRED)
    if attempt.response_lost_at is None:
        return MarkResponseLost(attempt=attempt.number)
    if now >= until:
        return AbandonAttempt(attempt=attempt.number, fault=attempt.fault or FaultKind.RESPONSE_LOST)
    is_wanted = job.find_part(attempt.number) is not None and not job.is_cancel_requested
    return _recovery_action(attempt, entry.recovery_method, until, is_wanted)


def _recovery_action(attempt: Attempt, recovery_method: RecoveryMethod, until: float, is_wanted: bool) -> JobAction:
    """Returns the action that finds a lost order. A resent order may be charged, so only wanted images are resent."""
    match recovery_method:
        case RecoveryMethod.REPLAY if not is_wanted:
            return AbandonAttempt(attempt=attempt.number, fault=attempt.fault or FaultKind.RESPONSE_LOST)
        case RecoveryMethod.REPLAY:
            return ResendOrder(attempt=attempt.number, until=until)
        case RecoveryMethod.SEARCH:
            return SearchOrder(attempt=attempt.number, until=until)
        case RecoveryMethod.CALLBACK:
            return AwaitCallback(attempt=attempt.number, until=until)
        case RecoveryMethod.NONE:
            return AbandonAttempt(attempt=attempt.number, fault=attempt.fault or FaultKind.RESPONSE_LOST)


def attempt_deadline(job: Job, attempt: Attempt) -> float:
    """Returns until when an attempt is awaited. Lost orders are searched for a while; longer if the seller called back
    or accepts idempotent repeats."""
    entry = job.route[attempt.route_index]
    if attempt.images_ready:
        return attempt.started_at + max(entry.timeout_seconds, job.timing.image_ttl_seconds)
    timeout_at = attempt.started_at + entry.timeout_seconds
    if attempt.response_lost_at is None:
        return timeout_at
    search_ends_at = attempt.response_lost_at + job.timing.reconcile_timeout_seconds
    return (
        max(timeout_at, search_ends_at)
        if attempt.callback_at is not None or entry.recovery_method is RecoveryMethod.REPLAY
        else search_ends_at
    )


def next_due(job: Job, now: float) -> float:
    """Returns when a worker must look at an open job next."""
    return min([_action_due_time(job, action, now) for action in derive_actions(job, now)], default=now)


def _action_due_time(job: Job, action: JobAction, now: float) -> float:
    match action:
        case AwaitClient(until=until):
            return until
        case SubmitOrder(route_indexes=(), retries=((_, retry_at), *_)):
            return max(now, min(retry_at, job.deadline))
        case PollOrder(until=until):
            delay = job.timing.poll_interval_seconds
        case SearchOrder(until=until) | AwaitCallback(until=until) | ResendOrder(until=until):
            delay = job.timing.search_interval_seconds
        case _:
            return now
    latest = until if job.state.is_terminal or job.is_overdue else min(until, job.deadline)
    return max(now, min(now + delay, latest))
