"""What one transition changes, applied all or nothing. Everything is worked out by comparing the job with what it was:
a transition moves the job, and money, ledger, milestones and webhooks follow."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache

import msgspec
from msgspec import Struct

from gateway.catalogue import Cell
from gateway.jobs.applying import Ignored, after
from gateway.jobs.facts import Decision, Happening
from gateway.jobs.failure import may_be_asked_again, may_have_been_bought
from gateway.jobs.job import Attempt, Job, State
from gateway.jobs.recovery import next_look
from gateway.jobs.tables import Line

SOFT_KEY_SECONDS = 120.0
# Instead of a retry's number, for a client that does not count its retries.
UNCOUNTED = -1


class Limits(Struct, frozen=True, kw_only=True):
    """What a team may spend, in micro-USD; None is no limit."""

    day: int | None = None
    month: int | None = None


class BudgetMove(Struct, frozen=True, kw_only=True):
    """What changes in one window of a team's budget. With a `limit`, nothing is done if it would be passed."""

    window: str
    hold: int
    spend: int = 0
    limit: int | None = None


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """Money that moved, for good: a correction is another entry, with the amount reversed. `day` is the hold's."""

    day: str
    at: float
    line: Line
    amount: int
    images: int
    job: str
    attempt: int
    team: str
    model: str
    seller: str
    cell: Cell


class Milestone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job's public event. `number` counts from 1 within the job, so a reader can say where it left off."""

    number: int
    at: float
    name: str
    image: int | None = None


class Delivery(Struct, frozen=True, kw_only=True):
    """A webhook that has to reach its team; what it says is read from the job when it is sent."""

    id: str
    job: str
    name: str
    at: float


class IdempotencyRecord(Struct, frozen=True, kw_only=True):
    """Ties a request to its job.

    `soft`: not the caller's key but the body's, under which all live jobs of that body lie. `retry`: how often its SDK
    says that it has sent this request before, or UNCOUNTED. `has_refused_first`: this process has refused the first
    request of a retry before that became a job. `caller` names this very request among all that ask for the same: a
    command that is sent twice makes one caller.
    """

    key: str
    fingerprint: str
    seconds: float = 86_400.0
    soft: bool = False
    retry: int = 0
    has_refused_first: bool = False
    caller: str = ""

    @property
    def attach(self) -> bool:
        """Whether it repeats a request."""
        return self.retry > 0

    @property
    def expects_first(self) -> bool:
        """Whether its first request may still be on its way."""
        return self.attach and not self.has_refused_first


class Commit(Struct, frozen=True, kw_only=True):
    """Compare-and-set on the job's version. `op` names this very change, so that a repeated commit knows itself.

    `due` is when an owner without any memory of the job must look at it next; None only when it is settled. `linger`:
    for how long its request's record outlives the job that ends here; `may_be_bought`: this end leaves that open;
    `is_refused`: nothing was bought, and a repetition is a new job.
    """

    job: Job
    expected: int
    op: str
    at: float
    blob: bytes
    fence: int | None = None
    due: float | None = None
    budget: tuple[BudgetMove, ...] = ()
    idempotency: IdempotencyRecord | None = None
    linger: float | None = None
    may_be_bought: bool = False
    is_refused: bool = False
    webhooks: tuple[Delivery, ...] = ()
    milestones: tuple[Milestone, ...] = ()
    ledger: tuple[LedgerEntry, ...] = ()
    documents: Mapping[str, bytes] = {}
    dropped: tuple[str, ...] = ()


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Job)


def apply(job: Job, happening: Happening, now: float) -> Commit | Ignored:
    """What this happening changes. Pure and total."""
    changed = after(job, happening, now)
    if isinstance(changed, Ignored):
        return changed
    fence = happening.fence if isinstance(happening, Decision) else None
    return difference(job, changed, now, fence)


def difference(old: Job | None, new: Job, now: float, fence: int | None = None) -> Commit:
    """Everything that follows from a job's having become what it is; `old` is None for a job just accepted."""
    milestones = tuple(_milestones(old, new, now))
    new = msgspec.structs.replace(new, milestones=new.milestones + len(milestones))
    blob = _ENCODER.encode(new)
    ends = new.state.is_terminal and not (old and old.state.is_terminal)
    return Commit(
        job=new,
        expected=old.version if old else 0,
        op=hashlib.blake2b(blob, digest_size=8, key=str(fence).encode()).hexdigest(),
        at=now,
        blob=blob,
        fence=fence,
        due=next_look(new, now),
        budget=tuple(_moves(old, new)),
        linger=_linger(new) if ends else None,
        may_be_bought=ends and may_have_been_bought(new),
        is_refused=ends and may_be_asked_again(new),
        webhooks=tuple(_webhooks(new, now)) if ends else (),
        milestones=milestones,
        ledger=tuple(_entries(old, new, now)),
    )


def _linger(ended: Job) -> float | None:
    """For how long the body's record tells of this job. A client's key outlives its job, unless the job was withdrawn:
    then the same key orders again."""
    if ended.soft_key is not None:
        return SOFT_KEY_SECONDS
    return 0.0 if ended.withdrawn and ended.hard_key else None


def decode_job(blob: bytes) -> Job:
    return _DECODER.decode(blob)


def windows_of(created: float) -> tuple[str, str]:
    """The day and the month (UTC) that a job's money belongs to: those of its acceptance, whenever it is settled."""
    return _windows(int(created // 86_400))


@lru_cache(maxsize=1024)
def _windows(day_number: int) -> tuple[str, str]:
    day = datetime.fromtimestamp(day_number * 86_400, UTC).date().isoformat()
    return day, day[:7]


def _moves(old: Job | None, new: Job) -> Iterator[BudgetMove]:
    hold = new.hold - (old.hold if old else 0)
    spend = new.captured - (old.captured if old else 0)
    if hold or spend:
        yield from (BudgetMove(window=window, hold=hold, spend=spend) for window in windows_of(new.created))


def _entries(old: Job | None, new: Job, now: float) -> Iterator[LedgerEntry]:
    for attempt in new.attempts:
        before = old.attempt(attempt.number) if old else None
        for line, amount, images in _booked(attempt, before, new.excess(attempt.number)):
            place = new.place_of(attempt)
            yield LedgerEntry(
                day=windows_of(new.created)[0],
                at=now,
                line=line,
                amount=amount,
                images=images,
                job=new.id,
                attempt=attempt.number,
                team=new.team,
                model=new.model,
                seller=place.seller,
                cell=place.cell,
            )


def _booked(attempt: Attempt, before: Attempt | None, excess: int) -> Iterator[tuple[Line, int, int]]:
    """What came onto each line, or went from it again, with the number of images it stands for."""
    if attempt is before:
        return
    delivered = attempt.delivered - (before.delivered if before else 0)
    rest = len(attempt.images) - attempt.delivered
    amounts = (
        (Line.CAPTURE, attempt.captured, before.captured if before else 0),
        (Line.ORPHAN, attempt.orphaned, before.orphaned if before else 0),
        (Line.SUSPECTED, attempt.suspected, before.suspected if before else 0),
        # Known when the attempt is closed with its images, and never corrected.
        (Line.EXCESS, excess, excess if before and not before.is_open else 0),
    )
    for line, amount, was in amounts:
        images = delivered if line in (Line.CAPTURE, Line.EXCESS) else rest if amount > was else -rest
        if amount != was or (line is Line.CAPTURE and images):
            yield line, amount - was, images


def _milestones(old: Job | None, new: Job, now: float) -> Iterator[Milestone]:
    number = new.milestones
    for name, image in _news(old, new):
        number += 1
        yield Milestone(number=number, at=now, name=name, image=image)


def _news(old: Job | None, new: Job) -> Iterator[tuple[str, int | None]]:
    if old is None:
        yield State.QUEUED, None
    if new.attempts and not (old and old.attempts):
        yield State.IN_PROGRESS, None
    if not (old and old.state.is_terminal):
        yield from (("image", image) for image in new.delivered if not old or image not in old.delivered)
        if new.state.is_terminal:
            yield new.state, None


def _webhooks(new: Job, now: float) -> Iterator[Delivery]:
    if new.webhook:
        yield Delivery(id=f"{new.id}-{new.state}", job=new.id, name=f"job.{new.state}", at=now)
