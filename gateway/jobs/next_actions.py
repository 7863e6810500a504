"""What has to be done for a job, told from what is saved of it alone: for the owner's next step and for a rescuer."""

from collections.abc import Iterator

from msgspec import Struct

from gateway.jobs.job import Attempt, Job, PartState, RecoveryMethod
from gateway.jobs.retry_times import list_retries
from providers.faults import FaultKind

SEARCH_INTERVAL_SECONDS = 5.0
RECONCILE_TIMEOUT_SECONDS = 120.0
POLL_INTERVAL_SECONDS = 5.0
# Sellers keep pictures for a day at least; after that nobody can say that they still exist.
IMAGE_TTL_SECONDS = 86_400.0
# How often a job is taken over in a row, without anything coming of it, until nothing more is bought for it. Its first
# owners had other jobs as well, any of which may have killed them; the last ones tried it out alone, so it is the one.
# An owner that lives for a beat, or gives the job away, has not died of it.
MAX_RECLAIMS_WITHOUT_PROGRESS = 6


class JobAction(Struct, frozen=True, kw_only=True):
    """Something that the job's owner has to do."""


class SubmitOrder(JobAction, frozen=True, kw_only=True):
    """Open an attempt for these images at one of the places, best first; or give them up if none will do.

    Before that come `retries`: places whose sellers did not take the order and said when to ask again.
    """

    images: tuple[int, ...]
    route_indexes: tuple[int, ...]
    retries: tuple[tuple[int, float], ...] = ()


class AttemptAction(JobAction, frozen=True, kw_only=True):
    attempt: int


class ResendOrder(AttemptAction, frozen=True, kw_only=True):
    """Send the same bytes with the same key: the seller promises not to sell them twice."""

    until: float


class SearchOrder(AttemptAction, frozen=True, kw_only=True):
    """Look for the order by our reference."""

    until: float


class AwaitCallback(AttemptAction, frozen=True, kw_only=True):
    """Nothing but a callback can show this order."""

    until: float


class AwaitPreviousWorker(AttemptAction, frozen=True, kw_only=True):
    """Only the owner before may have the answer to this order, and it may still run: wait for what it saves."""

    until: float


class PollOrder(AttemptAction, frozen=True, kw_only=True):
    """Ask what became of the order."""

    ticket: str
    until: float


class FetchImages(AttemptAction, frozen=True, kw_only=True):
    """The pictures lie at these links."""

    image_urls: tuple[str, ...]


class MarkResponseLost(AttemptAction, frozen=True, kw_only=True):
    """Whoever sent this order is gone, and the answer with it: say so (`ResponseLost`)."""


class AbandonAttempt(AttemptAction, frozen=True, kw_only=True):
    """Stop waiting for this order (`AttemptAbandoned`)."""

    fault: FaultKind


class AbandonLostImages(AbandonAttempt, frozen=True, kw_only=True):
    """They came with the answer, so only whoever heard it had them: obeyed unless somebody is busy with the attempt."""


class AwaitClient(JobAction, frozen=True, kw_only=True):
    """Its client may have got an error instead of the job: wait for a repeated request (`JobConfirmed`)."""

    until: float


class WithdrawJob(JobAction, frozen=True, kw_only=True):
    """Its caller has not asked again: nothing is bought (`JobWithdrawn`)."""


class ExpireJob(JobAction, frozen=True, kw_only=True):
    """The deadline is over (`JobExpired`)."""


class AbandonJob(JobAction, frozen=True, kw_only=True):
    """Each of the last owners crashed with this job: buy nothing more for it (`JobAbandoned`)."""


class PreviousWorker(Struct, frozen=True, kw_only=True):
    """The owner before: until when its news is awaited, and of how many attempts it can have any."""

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
    """What an owner has to do that takes the job over without any memory of it. Pure and total; () once it is settled.

    An owner asks the same after each change, and leaves out what it is doing already. Time may have passed without an
    owner: the new owner asks once about each order that can be asked about, before it obeys an Expire or
    a GiveUp. `is_created_here`: the store confirmed to this owner that it has accepted the job. Any other
    owner waits for the client, which may have got an error instead of the job.
    """
    if job.is_settled:
        return ()
    if not (is_created_here or job.is_confirmed or job.state.is_terminal):
        return (WithdrawJob(),) if now >= job.confirmation_deadline else (AwaitClient(until=job.confirmation_deadline),)
    if reclaims >= MAX_RECLAIMS_WITHOUT_PROGRESS and not (job.abandoned or job.state.is_terminal):
        return (AbandonJob(),)
    return tuple(_derive_job_actions(job, now, previous_worker))


def _derive_job_actions(job: Job, now: float, previous_worker: PreviousWorker) -> Iterator[JobAction]:
    if not job.state.is_terminal and not job.overdue and now >= job.deadline:
        yield ExpireJob()
        return
    for attempt in job.attempts:
        if attempt.is_open:
            action = _derive_attempt_action(job, attempt, now)
            yield (
                AwaitPreviousWorker(attempt=attempt.number, until=previous_worker.until)
                if _is_premature(job, action, now, previous_worker)
                else action
            )
    for part in job.parts:
        if part.state is PartState.WAITING:
            untried_indexes = tuple(
                route_index for route_index in range(len(job.route)) if route_index not in part.tried_indexes
            )
            yield SubmitOrder(images=part.images, route_indexes=untried_indexes, retries=list_retries(job, part))


def _is_premature(job: Job, action: JobAction, now: float, previous_worker: PreviousWorker) -> bool:
    """Whether an order would be given up before its time, for want of any trace, while the owner before may have one:
    its lease may have ended only because it stood still, or could not reach the store."""
    if (
        not isinstance(action, AbandonAttempt)
        or action.attempt > previous_worker.attempt_count
        or now >= previous_worker.until
    ):
        return False
    return now < attempt_deadline(job, job.attempts[action.attempt - 1])


def _derive_attempt_action(job: Job, attempt: Attempt, now: float) -> JobAction:
    entry, until = job.route_entry(attempt), attempt_deadline(job, attempt)
    if now >= until and (attempt.images_ready or job.can_poll(attempt)):
        return AbandonAttempt(
            attempt=attempt.number,
            fault=FaultKind.IMAGES_EXPIRED if attempt.images_ready else FaultKind.ORDER_TIMED_OUT,
        )
    if attempt.images_ready and attempt.image_urls:
        return FetchImages(attempt=attempt.number, image_urls=attempt.image_urls)
    if attempt.ticket is not None and entry.pollable:
        return PollOrder(attempt=attempt.number, ticket=attempt.ticket, until=until)
    if attempt.images_ready:
        return AbandonLostImages(attempt=attempt.number, fault=FaultKind.IMAGES_EXPIRED)
    if attempt.response_lost_at is None:
        return MarkResponseLost(attempt=attempt.number)
    if now >= until:
        return AbandonAttempt(attempt=attempt.number, fault=attempt.fault or FaultKind.RESPONSE_LOST)
    is_wanted = job.find_part(attempt.number) is not None and not job.cancel_requested
    return _recovery_action(attempt, entry.recovery_method, until, is_wanted)


def _recovery_action(attempt: Attempt, recovery_method: RecoveryMethod, until: float, is_wanted: bool) -> JobAction:
    """Sending again may buy what was never bought: only for images that are still wanted."""
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
    """Until when an attempt is waited for. A lost one is looked for a while; longer, if its seller called back, or
    promised not to sell the same twice."""
    entry = job.route_entry(attempt)
    if attempt.images_ready:
        return attempt.started_at + max(entry.timeout_seconds, IMAGE_TTL_SECONDS)
    timeout_at = attempt.started_at + entry.timeout_seconds
    if attempt.response_lost_at is None:
        return timeout_at
    search_ends_at = attempt.response_lost_at + RECONCILE_TIMEOUT_SECONDS
    return (
        max(timeout_at, search_ends_at)
        if attempt.callback_at is not None or entry.recovery_method is RecoveryMethod.REPLAY
        else search_ends_at
    )


def next_due(job: Job, now: float) -> float | None:
    """When somebody with no memory of the job must look at it; None only when it is settled."""
    if job.is_settled:
        return None
    return min((_action_due_time(job, action, now) for action in derive_actions(job, now)), default=now)


def _action_due_time(job: Job, action: JobAction, now: float) -> float:
    match action:
        case AwaitClient(until=until):
            return until
        case SubmitOrder(route_indexes=(), retries=((_, retry_at), *_)):
            return max(now, min(retry_at, job.deadline))
        case PollOrder(until=until):
            delay = POLL_INTERVAL_SECONDS
        case SearchOrder(until=until) | AwaitCallback(until=until) | ResendOrder(until=until):
            delay = SEARCH_INTERVAL_SECONDS
        case _:
            return now
    latest = until if job.state.is_terminal or job.overdue else min(until, job.deadline)
    return max(now, min(now + delay, latest))
