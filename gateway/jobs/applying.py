"""What a happening makes of a job. Pure and total: any happening, in any state, makes a new job or is ignored.

What it costs whom is in `booking.py`.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs import facts
from gateway.jobs.booking import Booking, booked, bought, ended, on, paid
from gateway.jobs.ending import concluded, joined
from gateway.jobs.job import Attempt, AttemptState, Excess, Job, Part, PartState, State, Tokens, stamp
from gateway.jobs.parts import drop_waiting_parts, find_waiting_part, remove_images, replace_attempt, replace_parts
from gateway.jobs.retrying import may_retry, with_retry_time
from gateway.jobs.tables import Line, part_after
from providers.faults import VERDICTS, Bought, FaultKind, Patience
from providers.progress import TokenUsage


class Ignored(Struct, frozen=True):
    """Nothing changes, and why not."""

    why: str


Result = Job | Ignored
_NOT_WAITING = Ignored("these images are not waiting together")
_PICTURES_EXIST = Ignored("the pictures exist: only their expiry ends this attempt")


def after(job: Job, happening: facts.Happening, now: float) -> Result:
    """The job as this leaves it, its version one higher."""
    changed = _TRANSITIONS[type(happening)](job, happening, now)
    if isinstance(changed, Ignored):
        return changed
    if changed == job:
        return Ignored("nothing new")
    return replace(concluded(changed, now), version=job.version + 1)


# --- facts


def _ticket_learned(job: Job, fact: facts.TicketLearned, now: float) -> Result:
    if not (attempt := job.attempt(fact.attempt)):
        return Ignored("no such attempt")
    if attempt.ticket is not None:
        return Ignored("nothing new" if attempt.ticket == fact.ticket else "another ticket is bound to this attempt")
    state = AttemptState.TICKETED if attempt.is_open else attempt.state
    return replace_attempt(job, replace(attempt, ticket=fact.ticket, state=state, lost=None))


def _answer_lost(job: Job, fact: facts.AnswerLost, now: float) -> Result:
    attempt = job.attempt(fact.attempt)
    if not attempt or not attempt.is_open or attempt.ready or job.can_ask_about(attempt):
        return Ignored("nothing is lost: the attempt is not waiting for an answer")
    if attempt.lost is not None:
        return Ignored("nothing new")
    if VERDICTS[fact.kind].bought is not Bought.PERHAPS:
        return Ignored("such an answer is no lost one, and nobody could give the order up for it")
    return replace_attempt(job, replace(attempt, lost=stamp(now), fault=fact.kind))


def _callback_seen(job: Job, fact: facts.CallbackSeen, now: float) -> Result:
    if not (attempt := job.attempt(fact.attempt)):
        return Ignored("no such attempt")
    if attempt.called is not None or not attempt.is_open:
        return Ignored("nothing new")
    return replace_attempt(job, replace(attempt, called=stamp(now)))


def _pictures_ready(job: Job, fact: facts.PicturesReady, now: float) -> Result:
    if not (attempt := job.attempt(fact.attempt)):
        return Ignored("no such attempt")
    cost = attempt.cost if fact.cost is None else fact.cost
    if not attempt.is_open:
        return _corrected(job, attempt, (Line.ORPHAN, paid(job, attempt, cost)))
    if not job.part_of(attempt.number):
        return _too_late(job, attempt, cost, None, now)
    job = _with_tokens(job, attempt, fact.usage)
    return replace_attempt(job, replace(attempt, ready=True, lost=None, cost=cost, links=fact.links or attempt.links))


def _pictures_delivered(job: Job, fact: facts.PicturesDelivered, now: float) -> Result:
    if not (attempt := job.attempt(fact.attempt)):
        return Ignored("no such attempt")
    cost = attempt.cost if fact.cost is None else fact.cost
    if not attempt.is_open:
        return _corrected(job, attempt, (Line.ORPHAN, paid(job, attempt, cost, fact.made)))
    if not (part := job.part_of(attempt.number)):
        return _too_late(job, attempt, cost, fact.made, now)
    delivered = tuple(image for image in attempt.images if image in fact.images)
    made = max(len(attempt.images) if fact.made is None else fact.made, len(delivered))
    total = paid(job, attempt, cost, made)
    due = total * len(delivered) // made if made else 0
    missing = None if len(delivered) == len(attempt.images) else fact.missing
    moved = _part_ended(job, part, delivered, missing, now)
    # No more than this releases: what is spent and what is held together never grow after the job was accepted.
    captured = min(due, job.hold - moved.hold)
    closed = ended(attempt, missing, cost, now, (Line.ORPHAN, total - due))
    closed = replace(closed, ready=True, delivered=len(delivered), captured=captured)
    moved = replace_attempt(_with_tokens(moved, attempt, fact.usage), closed)
    warnings = joined(job.warnings, fact.warnings if delivered else ())
    excesses = (*job.excesses, Excess(attempt.number, due - captured)) if due > captured else job.excesses
    return replace(moved, warnings=warnings, excesses=excesses)


def _order_failed(job: Job, fact: facts.OrderFailed, now: float) -> Result:
    if not (attempt := job.attempt(fact.attempt)):
        return Ignored("no such attempt")
    what = bought(fact.kind, fact.cost)
    if attempt.is_open and attempt.ready and what is not Bought.YES:
        return _PICTURES_EXIST
    if attempt.is_open:
        job = with_retry_time(job, attempt.number, fact.kind, fact.retry_after, now)
        return _closed(job, attempt, fact.kind, fact.cost, now)
    believed = VERDICTS[fact.kind].when_asking is Patience.BELIEVE
    if not believed or (what is Bought.PERHAPS and fact.cost is None):
        return Ignored("it says no more than was known")
    return _corrected(job, attempt, booked(job, attempt, fact.kind, fact.cost))


def _job_confirmed(job: Job, fact: facts.JobConfirmed, now: float) -> Result:
    if job.state.is_terminal or job.is_confirmed:
        return Ignored("nothing new")
    return replace(job, confirmed=True)


def _cancel_asked(job: Job, fact: facts.CancelAsked, now: float) -> Result:
    if job.state.is_terminal:
        return Ignored(f"the job is {job.state} already")
    return replace(drop_waiting_parts(job), cancel_asked=True)


# --- decisions


def _attempt_opened(job: Job, decision: facts.AttemptOpened, now: float) -> Result:
    wanted = tuple(sorted(set(decision.images)))
    if not (part := find_waiting_part(job, wanted)):
        return _NOT_WAITING
    if refused := _not_to_be_bought(job, part, decision.place, wanted, now):
        return Ignored(refused)
    number = len(job.attempts) + 1
    attempt = Attempt(number=number, place=decision.place, images=wanted, opened=stamp(now))
    tried = (*part.tried, decision.place)
    taken = replace(part, images=wanted, state=PartState.BUYING, tried=tried, attempt=number, fault=None)
    job = replace_parts(job, part, taken, remove_images(part, wanted))
    return replace(job, state=State.IN_PROGRESS, attempts=(*job.attempts, attempt))


def _not_to_be_bought(job: Job, part: Part, place: int, wanted: tuple[int, ...], now: float) -> str | None:
    """Why these images may not be ordered there and now."""
    if job.state.is_terminal or job.cancel_asked or job.overdue or job.abandoned or now >= job.deadline:
        return "nothing more is bought for this job"
    if not 0 <= place < len(job.route) or len(wanted) > job.route[place].images:
        return "there is no such place, or it does not take as many images at once"
    if place in part.tried and not may_retry(job, part, place, now):
        return "that place has been tried for these images"
    return "all tries of these images are used up" if len(part.tried) >= job.tries else None


def _attempt_given_up(job: Job, decision: facts.AttemptGivenUp, now: float) -> Result:
    attempt = job.attempt(decision.attempt)
    if not attempt or not attempt.is_open:
        return Ignored("no such attempt is open")
    if VERDICTS[decision.kind].bought is Bought.NO:
        return Ignored("giving up does not prove that nothing was bought")
    if attempt.ready and VERDICTS[decision.kind].bought is not Bought.YES:
        return _PICTURES_EXIST
    return _closed(job, attempt, decision.kind, None, now)


def _part_given_up(job: Job, decision: facts.PartGivenUp, now: float) -> Result:
    """Also some of a part's images: a seller that takes few at once is asked for them by several tasks of ours."""
    unwanted = tuple(sorted(set(decision.images)))
    if not (part := find_waiting_part(job, unwanted)):
        return _NOT_WAITING
    if now >= job.deadline:
        return Ignored("the deadline is over: the job expires, and no seller failed")
    if decision.kind is not None:
        job = with_retry_time(job, 0, decision.kind, decision.retry_after, now)
    failed = replace(part, images=unwanted, state=PartState.FAILED, fault=decision.kind or part.fault)
    return replace_parts(job, part, failed, remove_images(part, unwanted))


def _job_expired(job: Job, decision: facts.JobExpired, now: float) -> Result:
    """What is being made goes on: its attempts stay open, so that the money is known in the end."""
    if job.state.is_terminal or now < job.deadline:
        return Ignored("the deadline is not over" if now < job.deadline else f"the job is {job.state} already")

    def ended(part: Part) -> Part:
        attempt = job.attempt(part.attempt or 0)
        if not part.state.is_open or (attempt and attempt.ready):
            return part
        return replace(part, state=PartState.FAILED, attempt=None)

    return replace(job, overdue=True, parts=tuple(ended(part) for part in job.parts))


def _job_withdrawn(job: Job, decision: facts.JobWithdrawn, now: float) -> Result:
    if job.state.is_terminal or job.is_confirmed:
        return Ignored("the job has ended, or its caller counts on it")
    if now < job.confirm_by:
        return Ignored("its caller may still ask again")
    return replace(drop_waiting_parts(job), withdrawn=True)


def _job_abandoned(job: Job, decision: facts.JobAbandoned, now: float) -> Result:
    """What is running goes on: it is paid for, and only asking or waiting for it is left to do."""
    if job.state.is_terminal or job.abandoned:
        return Ignored("nothing more is bought for this job")
    for part in job.parts:
        if part.state is PartState.WAITING:
            job = replace_parts(job, part, replace(part, state=PartState.FAILED))
    return replace(job, abandoned=True)


# --- what they share


def _closed(job: Job, attempt: Attempt, kind: FaultKind, cost: int | None, now: float) -> Job:
    """The attempt ends without pictures for anybody."""
    cost = attempt.cost if cost is None else cost
    job = replace_attempt(job, ended(attempt, kind, cost, now, booked(job, attempt, kind, cost)))
    part = job.part_of(attempt.number)
    return _part_ended(job, part, (), kind, now) if part else job


def _too_late(job: Job, attempt: Attempt, cost: int | None, made: int | None, now: float) -> Job:
    """Pictures that nobody waits for any more."""
    orphan = (Line.ORPHAN, paid(job, attempt, cost, made))
    return replace_attempt(job, ended(attempt, FaultKind.OVERDUE, cost, now, orphan))


def _part_ended(job: Job, part: Part, delivered: tuple[int, ...], missing: FaultKind | None, now: float) -> Job:
    """What an attempt's end makes of its images: those that are there, and those that are not."""
    there = replace(part, images=delivered, state=PartState.DELIVERED, attempt=None, fault=None)
    left = replace(remove_images(part, delivered), attempt=None, fault=missing)
    return replace_parts(job, part, there, _left_over(job, left, now))


def _left_over(job: Job, part: Part, now: float) -> Part:
    if part.fault is None:
        return part
    state = part_after(VERDICTS[part.fault].then, job.reorder)
    if state is PartState.WAITING and job.cancel_asked:
        state = PartState.DROPPED
    elif len(part.tried) >= job.tries or job.overdue or job.abandoned:
        state = PartState.FAILED
    return replace(part, state=state)


def _corrected(job: Job, attempt: Attempt, booking: Booking) -> Result:
    """What became known after the attempt was closed: only the books change, and never what the team paid."""
    if attempt.delivered or attempt.orphaned:
        return Ignored("its money is booked already")
    return replace_attempt(job, on(attempt, booking))


def _with_tokens(job: Job, attempt: Attempt, usage: TokenUsage | None) -> Job:
    """The first count of an attempt stands: its seller has no reason to count again."""
    if usage is None or any(tokens.attempt == attempt.number for tokens in job.tokens):
        return job
    counted = Tokens(attempt.number, usage.input_text, usage.input_image, usage.output)
    return replace(job, tokens=(*job.tokens, counted))


_TRANSITIONS: dict[type[facts.Happening], Callable[[Job, Any, float], Result]] = {
    facts.TicketLearned: _ticket_learned,
    facts.AnswerLost: _answer_lost,
    facts.CallbackSeen: _callback_seen,
    facts.PicturesReady: _pictures_ready,
    facts.PicturesDelivered: _pictures_delivered,
    facts.OrderFailed: _order_failed,
    facts.JobConfirmed: _job_confirmed,
    facts.CancelAsked: _cancel_asked,
    facts.AttemptOpened: _attempt_opened,
    facts.AttemptGivenUp: _attempt_given_up,
    facts.PartGivenUp: _part_given_up,
    facts.JobExpired: _job_expired,
    facts.JobWithdrawn: _job_withdrawn,
    facts.JobAbandoned: _job_abandoned,
}
