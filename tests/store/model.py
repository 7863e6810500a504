"""What a store must hold and answer, kept in plain dictionaries."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from gateway.jobs.applying import Ignored
from gateway.jobs.commit import Commit, Delivery, IdempotencyRecord, LedgerEntry, apply, windows_of
from gateway.jobs.facts import (
    AnswerLost,
    AttemptGivenUp,
    AttemptOpened,
    CallbackSeen,
    CancelAsked,
    Happening,
    JobAbandoned,
    JobConfirmed,
    JobExpired,
    JobWithdrawn,
    OrderFailed,
    PartGivenUp,
    PicturesDelivered,
    PicturesReady,
    TicketLearned,
)
from gateway.jobs.job import Job, PartState
from gateway.jobs.tables import Line
from gateway.store.base import (
    EARLY_DEATHS,
    FIRST_FENCE,
    REMEMBERED_OPS,
    Applied,
    Fenced,
    KeyReused,
    Known,
    Outcome,
    OverBudget,
    Stale,
    lease_for,
)
from gateway.store.books import Balance
from providers.faults import FaultKind


@dataclass
class Entry:
    """A job, whose it is, when it is due, and its last commits."""

    job: Job
    due: float | None
    fence: int = FIRST_FENCE
    is_owned: bool = True
    rescues: int = 0
    commits: list[Commit] = field(default_factory=list)
    before: Job | None = None


@dataclass
class Waiting:
    """A webhook on its way out."""

    delivery: Delivery
    at: float
    tries: int = 0


@dataclass
class Record:
    """Under a caller's key."""

    fingerprint: str
    job: str
    ends: float


@dataclass
class Shared:
    """A job that a body was asked for with: the callers that wait for it or were answered, and which retry each is."""

    job: str
    callers: dict[str, float]
    is_awaiting_first: bool
    ends: float
    has_ended: bool = False
    may_be_bought: bool = False
    is_refused: bool = False


class Model:
    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.jobs: dict[str, Entry] = {}
        self.outbox: dict[str, Waiting] = {}
        self.ledger: list[LedgerEntry] = []
        self._records: dict[tuple[str, str], Record] = {}
        self._bodies: dict[tuple[str, str], list[Shared]] = {}

    @property
    def open(self) -> list[Entry]:
        return [entry for entry in self.jobs.values() if not entry.job.is_settled]

    @property
    def due(self) -> dict[str, float]:
        return {name: entry.due for name, entry in self.jobs.items() if entry.due is not None}

    def balances(self) -> dict[tuple[str, str], Balance]:
        """Worked out from the jobs and the ledger alone."""
        held: Counter[tuple[str, str]] = Counter()
        spent: Counter[tuple[str, str]] = Counter()
        for entry in self.jobs.values():
            for window in windows_of(entry.job.created):
                held[entry.job.team, window] += entry.job.hold
        for line in self.ledger:
            if line.line is Line.CAPTURE:
                for window in (line.day, line.day[:7]):
                    spent[line.team, window] += line.amount
        return {key: Balance(held=held[key], spent=spent[key]) for key in held.keys() | spent.keys()}

    def commit(self, commit: Commit, now: float) -> Outcome:
        """How it must be answered; what it changes is changed here, too."""
        entry = self.jobs.get(commit.job.id)
        refused = self._refusal(entry, commit, now)
        if refused is None:
            self._write(entry, commit, now)
        return refused or Applied()

    def _refusal(self, entry: Entry | None, commit: Commit, now: float) -> Outcome | None:
        if entry and commit.op in [one.op for one in entry.commits]:
            return Applied()
        if commit.expected != (entry.job.version if entry else 0):
            return Stale()
        if entry and commit.fence is not None and not (entry.is_owned and commit.fence == entry.fence):
            return Fenced()
        return None if entry else self._not_accepted(commit, now)

    def recalled(self, team: str, asked: IdempotencyRecord, now: float) -> Known | KeyReused | None:
        """Before its commit."""
        return None if asked.soft and not asked.attach else self._known(team, asked, now)

    def _known(self, team: str, asked: IdempotencyRecord, now: float) -> Known | KeyReused | None:
        if asked.soft:
            return self._attached(team, asked, now)
        record = self._records.get((team, asked.key))
        if record is None or record.ends <= now:
            return None
        return Known(record.job) if record.fingerprint == asked.fingerprint else KeyReused(record.job)

    def _attached(self, team: str, asked: IdempotencyRecord, now: float) -> Known | None:
        chosen = self._chosen(team, asked, now)
        if chosen is None or chosen.is_refused:
            return None
        if asked.caller not in chosen.callers:
            is_late = chosen.is_awaiting_first and not asked.attach
            for name in self._given_up(chosen, asked)[-1:]:
                del chosen.callers[name]
            chosen.callers[asked.caller] = inf if is_late else asked.retry
            chosen.is_awaiting_first = chosen.is_awaiting_first and not is_late
        return Known(chosen.job)

    @staticmethod
    def _given_up(one: Shared, asked: IdempotencyRecord) -> list[str]:
        """By the SDK that asks now: the last of them is its predecessor."""
        earlier = (name for name, retry in one.callers.items() if asked.attach and retry < asked.retry)
        return sorted(earlier, key=one.callers.__getitem__)

    def _chosen(self, team: str, asked: IdempotencyRecord, now: float) -> Shared | None:
        """Jobs are kept in the order of their age. One that is refused stands for none."""
        shared = [one for one in self._bodies.get((team, asked.key), []) if one.ends > now]
        for one in shared:
            if asked.caller in one.callers and not one.is_refused:
                return one
        awaiting = [one for one in shared if one.is_awaiting_first and not asked.attach]
        lonely = [one for one in shared if not one.callers]
        following = [one for one in shared if self._given_up(one, asked)]
        doubtful = [one for one in shared if one.may_be_bought and not asked.attach]
        return min(
            awaiting or lonely or following or doubtful,
            key=lambda one: (
                bool(one.callers),
                -max(map(one.callers.__getitem__, self._given_up(one, asked)), default=0.0),
                not one.is_refused,
                one.has_ended,
            ),
            default=None,
        )

    def leaves(self, team: str, asked: IdempotencyRecord) -> None:
        for one in self._bodies.get((team, asked.key), []) if asked.soft else []:
            if not one.is_refused:
                one.callers.pop(asked.caller, None)

    def _not_accepted(self, commit: Commit, now: float) -> Outcome | None:
        if (asked := commit.idempotency) and (known := self._known(commit.job.team, asked, now)):
            return known
        balances = self.balances()
        for move in commit.budget:
            balance = balances.get((commit.job.team, move.window), Balance())
            if move.limit is not None and balance.held + balance.spent + move.hold > move.limit:
                return OverBudget(window=move.window, limit=move.limit, spent=balance.spent, held=balance.held)
        return None

    def _write(self, entry: Entry | None, commit: Commit, now: float) -> None:
        job = commit.job
        if entry is None:
            entry = self.jobs[job.id] = Entry(job=job, due=now + self.lease)
            self._remember(job, commit.idempotency, now)
        elif not entry.is_owned and commit.due is not None:
            entry.due = now + max(0.0, commit.due - commit.at)
        entry.before = entry.job if entry.job is not job else None
        entry.job, entry.rescues = job, 0
        entry.commits = [*entry.commits, commit][-REMEMBERED_OPS:]
        if job.is_settled:
            entry.due = None
        if commit.linger is not None:
            self._end_records(commit, commit.linger, now)
        self.ledger += commit.ledger
        self.outbox |= {one.id: Waiting(one, now) for one in commit.webhooks}

    def _end_records(self, commit: Commit, linger: float, now: float) -> None:
        job = commit.job
        for one in self._bodies.get((job.team, job.soft_key or ""), []):
            if one.job == job.id:
                one.ends, one.has_ended, one.may_be_bought = now + linger, True, commit.may_be_bought
                if commit.is_refused:
                    self._refuse(one, now)
        known = self._records.get((job.team, job.hard_key or ""))
        if known and known.job == job.id:
            known.ends = now + linger

    @staticmethod
    def _refuse(one: Shared, now: float) -> None:
        """What is left is for the retries of those whose SDKs count, whose first requests have all come."""
        one.callers = {name: retry for name, retry in one.callers.items() if 0 <= retry < inf}
        one.is_refused = True
        if not one.callers or one.is_awaiting_first:
            one.ends = now

    def _remember(self, job: Job, asked: IdempotencyRecord | None, now: float) -> None:
        if asked and asked.soft:
            refusal = self._chosen(job.team, asked, now)
            if refusal:
                del refusal.callers[self._given_up(refusal, asked)[-1]]
                if not refusal.callers:
                    refusal.ends = now
            expects_first = asked.attach and not refusal
            shared = Shared(job.id, {asked.caller: asked.retry}, expects_first, now + asked.seconds)
            self._bodies.setdefault((job.team, asked.key), []).append(shared)
        elif asked:
            self._records[job.team, asked.key] = Record(asked.fingerprint, job.id, now + asked.seconds)

    def claimed(self, name: str, now: float) -> Entry:
        entry = self.jobs[name]
        entry.fence, entry.rescues = entry.fence + 1, entry.rescues + 1
        entry.is_owned, entry.due = True, now + lease_for(entry.rescues, self.lease)
        return entry

    def claimable(self, most: int, now: float) -> list[float]:
        """When those are due that a claim must give: many whose owners lived, or died once, and one of the others."""
        entries = [entry for entry in self.jobs.values() if entry.due is not None and entry.due <= now]
        together = sorted(entry.due or 0.0 for entry in entries if entry.rescues < EARLY_DEATHS)
        alone = sorted(entry.due or 0.0 for entry in entries if entry.rescues >= EARLY_DEATHS)
        return together[:most] + alone[:1]

    def beat(self, leases: Mapping[str, int], now: float) -> frozenset[str]:
        """Returns those that are not the caller's any more. There is one process here, so no owner crashes."""
        ours = {name for name, fence in leases.items() if self._is_ours(name, fence)}
        for name in ours:
            self.jobs[name].due, self.jobs[name].rescues = now + self.lease, 0
        return frozenset(leases.keys() - ours)

    def snooze(self, name: str, fence: int, until: float) -> bool:
        if not self._is_ours(name, fence):
            return False
        entry = self.jobs[name]
        entry.due, entry.is_owned = until, False
        entry.rescues = max(0, entry.rescues - 1)
        return True

    def _is_ours(self, name: str, fence: int) -> bool:
        entry = self.jobs[name]
        return entry.is_owned and entry.fence == fence and not entry.job.is_settled


def what_may_happen(job: Job, fence: int, now: float) -> list[Commit]:
    """Every change of this job that would be one."""
    commits = (apply(job, happening, now) for happening in _happenings(job, fence))
    return [commit for commit in commits if not isinstance(commit, Ignored)]


def _happenings(job: Job, fence: int) -> Iterator[Happening]:
    yield CancelAsked()
    yield JobConfirmed()
    yield JobWithdrawn(fence=fence)
    yield JobExpired(fence=fence)
    yield JobAbandoned(fence=fence)
    for part in job.parts:
        if part.state is PartState.WAITING:
            for place in range(len(job.route)):
                yield AttemptOpened(fence=fence, place=place, images=part.images[: job.route[place].images])
            yield PartGivenUp(fence=fence, images=part.images)
    for attempt in job.attempts:
        yield from _about(attempt.number, attempt.images, fence)


def _about(number: int, images: tuple[int, ...], fence: int) -> Iterator[Happening]:
    yield TicketLearned(attempt=number, ticket=f"ticket-{number}")
    yield AnswerLost(attempt=number)
    yield CallbackSeen(attempt=number)
    yield PicturesReady(attempt=number, cost=41_000)
    yield PicturesDelivered(attempt=number, images=images)
    yield PicturesDelivered(attempt=number, images=images[:1], made=len(images), cost=77_777)
    for kind in (FaultKind.UNAVAILABLE, FaultKind.FAILED, FaultKind.LOST, FaultKind.EMPTY):
        yield OrderFailed(attempt=number, kind=kind)
    yield AttemptGivenUp(fence=fence, attempt=number, kind=FaultKind.OVERDUE)
