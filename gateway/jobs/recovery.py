"""What has to be done for a job, told from what is saved of it alone: for the owner's next step and for a rescuer."""

from collections.abc import Iterator

from msgspec import Struct

from gateway.jobs.job import Attempt, Job, PartState, Trace
from gateway.jobs.retrying import retries_of
from providers.faults import FaultKind

SEARCH_SECONDS = 5.0
RECONCILE_SECONDS = 120.0
POLL_SECONDS = 5.0
# Sellers keep pictures for a day at least; after that nobody can say that they still exist.
PICTURES_LAST_SECONDS = 86_400.0
# How often a job is taken over in a row, without anything coming of it, until nothing more is bought for it. Its first
# owners had other jobs as well, any of which may have killed them; the last ones tried it out alone, so it is the one.
# An owner that lives for a beat, or gives the job away, has not died of it.
RESCUES_WITHOUT_PROGRESS = 6


class Todo(Struct, frozen=True, kw_only=True):
    """Something that the job's owner has to do."""


class Buy(Todo, frozen=True, kw_only=True):
    """Open an attempt for these images at one of the places, best first; or give them up if none will do.

    Before that come `retries`: places whose sellers did not take the order and said when to ask again.
    """

    images: tuple[int, ...]
    places: tuple[int, ...]
    retries: tuple[tuple[int, float], ...] = ()


class ForAttempt(Todo, frozen=True, kw_only=True):
    attempt: int


class Resend(ForAttempt, frozen=True, kw_only=True):
    """Send the same bytes with the same key: the seller promises not to sell them twice."""

    until: float


class Search(ForAttempt, frozen=True, kw_only=True):
    """Look for the order by our reference."""

    until: float


class AwaitCallback(ForAttempt, frozen=True, kw_only=True):
    """Nothing but a callback can show this order."""

    until: float


class AwaitFormer(ForAttempt, frozen=True, kw_only=True):
    """Only the owner before may have the answer to this order, and it may still run: wait for what it saves."""

    until: float


class Poll(ForAttempt, frozen=True, kw_only=True):
    """Ask what became of the order."""

    ticket: str
    until: float


class Fetch(ForAttempt, frozen=True, kw_only=True):
    """The pictures lie at these links."""

    links: tuple[str, ...]


class LoseTrack(ForAttempt, frozen=True, kw_only=True):
    """Whoever sent this order is gone, and the answer with it: say so (`AnswerLost`)."""


class GiveUp(ForAttempt, frozen=True, kw_only=True):
    """Stop waiting for this order (`AttemptGivenUp`)."""

    kind: FaultKind


class LosePictures(GiveUp, frozen=True, kw_only=True):
    """They came with the answer, so only whoever heard it had them: obeyed unless somebody is busy with the attempt."""


class AwaitCaller(Todo, frozen=True, kw_only=True):
    """Its client may have got an error instead of the job: wait for a repeated request (`JobConfirmed`)."""

    until: float


class Withdraw(Todo, frozen=True, kw_only=True):
    """Its caller has not asked again: nothing is bought (`JobWithdrawn`)."""


class Expire(Todo, frozen=True, kw_only=True):
    """The deadline is over (`JobExpired`)."""


class Abandon(Todo, frozen=True, kw_only=True):
    """Each of the last owners crashed with this job: buy nothing more for it (`JobAbandoned`)."""


class Former(Struct, frozen=True, kw_only=True):
    """The owner before: until when its news is awaited, and of how many attempts it can have any."""

    until: float = 0.0
    attempts: int = 0


NO_FORMER = Former()


def recover(
    job: Job, now: float, rescues: int = 0, former: Former = NO_FORMER, is_accepted_here: bool = False
) -> tuple[Todo, ...]:
    """What an owner has to do that takes the job over without any memory of it. Pure and total; () once it is settled.

    An owner asks the same after each change, and leaves out what it is doing already. Time may have passed without an
    owner: the new owner asks once about each order that can be asked about, before it obeys an Expire or
    a GiveUp. `is_accepted_here`: the store confirmed to this owner that it has accepted the job. Any other
    owner waits for the client, which may have got an error instead of the job.
    """
    if job.is_settled:
        return ()
    if not (is_accepted_here or job.is_confirmed or job.state.is_terminal):
        return (Withdraw(),) if now >= job.confirm_by else (AwaitCaller(until=job.confirm_by),)
    if rescues >= RESCUES_WITHOUT_PROGRESS and not (job.abandoned or job.state.is_terminal):
        return (Abandon(),)
    return tuple(_todos(job, now, former))


def _todos(job: Job, now: float, former: Former) -> Iterator[Todo]:
    if not job.state.is_terminal and not job.overdue and now >= job.deadline:
        yield Expire()
        return
    for attempt in job.attempts:
        if attempt.is_open:
            todo = _for_attempt(job, attempt, now)
            yield AwaitFormer(attempt=attempt.number, until=former.until) if _is_early(job, todo, now, former) else todo
    for part in job.parts:
        if part.state is PartState.WAITING:
            untried = tuple(place for place in range(len(job.route)) if place not in part.tried)
            yield Buy(images=part.images, places=untried, retries=retries_of(job, part))


def _is_early(job: Job, todo: Todo, now: float, former: Former) -> bool:
    """Whether an order would be given up before its time, for want of any trace, while the owner before may have one:
    its lease may have ended only because it stood still, or could not reach the store."""
    if not isinstance(todo, GiveUp) or todo.attempt > former.attempts or now >= former.until:
        return False
    return now < deadline_of(job, job.attempts[todo.attempt - 1])


def _for_attempt(job: Job, attempt: Attempt, now: float) -> Todo:
    place, until = job.place_of(attempt), deadline_of(job, attempt)
    if now >= until and (attempt.ready or job.can_ask_about(attempt)):
        return GiveUp(attempt=attempt.number, kind=FaultKind.EXPIRED if attempt.ready else FaultKind.OVERDUE)
    if attempt.ready and attempt.links:
        return Fetch(attempt=attempt.number, links=attempt.links)
    if attempt.ticket is not None and place.asks:
        return Poll(attempt=attempt.number, ticket=attempt.ticket, until=until)
    if attempt.ready:
        return LosePictures(attempt=attempt.number, kind=FaultKind.EXPIRED)
    if attempt.lost is None:
        return LoseTrack(attempt=attempt.number)
    if now >= until:
        return GiveUp(attempt=attempt.number, kind=attempt.fault or FaultKind.LOST)
    is_wanted = job.part_of(attempt.number) is not None and not job.cancel_asked
    return _traced(attempt, place.trace, until, is_wanted)


def _traced(attempt: Attempt, trace: Trace, until: float, is_wanted: bool) -> Todo:
    """Sending again may buy what was never bought: only for images that are still wanted."""
    match trace:
        case Trace.REPLAY if not is_wanted:
            return GiveUp(attempt=attempt.number, kind=attempt.fault or FaultKind.LOST)
        case Trace.REPLAY:
            return Resend(attempt=attempt.number, until=until)
        case Trace.SEARCH:
            return Search(attempt=attempt.number, until=until)
        case Trace.CALLBACK:
            return AwaitCallback(attempt=attempt.number, until=until)
        case Trace.NONE:
            return GiveUp(attempt=attempt.number, kind=attempt.fault or FaultKind.LOST)


def deadline_of(job: Job, attempt: Attempt) -> float:
    """Until when an attempt is waited for. A lost one is looked for a while; longer, if its seller called back, or
    promised not to sell the same twice."""
    place = job.place_of(attempt)
    if attempt.ready:
        return attempt.opened + max(place.patience, PICTURES_LAST_SECONDS)
    overdue = attempt.opened + place.patience
    if attempt.lost is None:
        return overdue
    searched = attempt.lost + RECONCILE_SECONDS
    return max(overdue, searched) if attempt.called is not None or place.trace is Trace.REPLAY else searched


def next_look(job: Job, now: float) -> float | None:
    """When somebody with no memory of the job must look at it; None only when it is settled."""
    if job.is_settled:
        return None
    return min((_next_step(job, todo, now) for todo in recover(job, now)), default=now)


def _next_step(job: Job, todo: Todo, now: float) -> float:
    match todo:
        case AwaitCaller(until=until):
            return until
        case Buy(places=(), retries=((_, at), *_)):
            return max(now, min(at, job.deadline))
        case Poll(until=until):
            wait = POLL_SECONDS
        case Search(until=until) | AwaitCallback(until=until) | Resend(until=until):
            wait = SEARCH_SECONDS
        case _:
            return now
    ends = until if job.state.is_terminal or job.overdue else min(until, job.deadline)
    return max(now, min(now + wait, ends))
