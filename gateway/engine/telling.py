"""What a commit means to those who listen, and to health: told once, by whoever made the commit."""

from msgspec.structs import replace

from gateway.engine.hands import Hands
from gateway.events import AttemptEnded, AttemptOpened, FailedOver, JobEnded, MoneyBooked, PriceDrifted
from gateway.jobs.commit import Commit, LedgerEntry
from gateway.jobs.job import Attempt, Job
from gateway.upstream.health import Outcome


def tell_of(hands: Hands, before: Job, commit: Commit) -> None:
    job = commit.job
    for attempt in job.attempts:
        was = before.attempt(attempt.number)
        if was is None:
            _tell_opened(hands, job, attempt)
        if not attempt.is_open and (was is None or was.is_open):
            _tell_ended(hands, job, attempt)
    for entry in commit.ledger:
        hands.emit(_booked(job, entry))
    if job.state.is_terminal and not before.state.is_terminal:
        hands.emit(_ended(hands, job))


def _tell_opened(hands: Hands, job: Job, attempt: Attempt) -> None:
    place = job.place_of(attempt)
    hands.emit(
        AttemptOpened(
            job=job.id,
            attempt=attempt.number,
            seller=place.seller,
            cell=place.cell,
            images=len(attempt.images),
            config=job.config,
        )
    )
    earlier = [one for one in job.attempts[: attempt.number - 1] if set(one.images) & set(attempt.images)]
    if earlier and earlier[-1].place != attempt.place:
        hands.emit(_failed_over(job, earlier[-1], attempt))


def _failed_over(job: Job, before: Attempt, after: Attempt) -> FailedOver:
    return FailedOver(
        job=job.id,
        attempt=after.number,
        before=job.place_of(before).seller,
        after=job.place_of(after).seller,
        reason=before.fault,
        config=job.config,
    )


def _tell_ended(hands: Hands, job: Job, attempt: Attempt) -> None:
    place, seconds = job.place_of(attempt), (attempt.closed or attempt.opened) - attempt.opened
    hands.emit(
        AttemptEnded(
            job=job.id,
            attempt=attempt.number,
            team=job.team,
            seller=place.seller,
            model=job.model,
            cell=place.cell,
            images=len(attempt.images),
            delivered=attempt.delivered,
            seconds=seconds,
            fault=attempt.fault,
            config=job.config,
        )
    )
    if attempt.fault is not None:
        record_health(hands, job, attempt, Outcome(fault=attempt.fault, seconds=seconds))
    expected = place.price * attempt.delivered + job.order_price(attempt.place)
    if attempt.delivered and attempt.cost is not None and attempt.cost != expected:
        hands.emit(
            PriceDrifted(
                job=job.id,
                attempt=attempt.number,
                seller=place.seller,
                cell=place.cell,
                price=expected // attempt.delivered,
                paid=attempt.cost // attempt.delivered,
                config=job.config,
            )
        )


def _booked(job: Job, entry: LedgerEntry) -> MoneyBooked:
    return MoneyBooked(
        job=entry.job,
        attempt=entry.attempt,
        team=entry.team,
        seller=entry.seller,
        model=entry.model,
        cell=entry.cell,
        line=entry.line,
        amount=entry.amount,
        images=entry.images,
        day=entry.day,
        config=job.config,
    )


def record_health(hands: Hands, job: Job, attempt: Attempt, outcome: Outcome) -> None:
    """How long the seller asked us to wait is known to the limits, which have obeyed it since the answer came."""
    if where := hands.where(job.place_of(attempt), job.model):
        rest = hands.limits.pause_left(where.account)
        hands.health.record(where, replace(outcome, retry_after=rest), hands.clock())


def _ended(hands: Hands, job: Job) -> JobEnded:
    return JobEnded(
        job=job.id,
        team=job.team,
        model=job.model,
        cell=job.route[0].cell,
        state=job.state,
        delivered=len(job.delivered),
        images=job.n,
        seconds=(job.finished or job.created) - job.created,
        fault=job.fault,
        config=job.config,
    )
