"""A model of a store in plain dictionaries: what it must contain and return."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from gateway.jobs.commit import (
    Commit,
    IdempotencyRecord,
    LedgerEntry,
    WebhookDelivery,
    budget_windows,
    build_update_commit,
)
from gateway.jobs.job import Job, PartState
from gateway.jobs.transition_tables import LedgerLine
from gateway.jobs.transitions import Ignored
from gateway.jobs.updates import (
    AttemptAbandoned,
    AttemptStarted,
    CallbackReceived,
    CancelRequested,
    ImagesReady,
    ImagesStored,
    JobAbandoned,
    JobConfirmed,
    JobExpired,
    JobUpdate,
    JobWithdrawn,
    OrderFailed,
    PartAbandoned,
    ResponseLost,
    TicketReceived,
)
from gateway.store.base import (
    FIRST_FENCE,
    MAX_EARLY_CRASHES,
    MAX_REMEMBERED_COMMITS,
    Applied,
    BudgetExceeded,
    CommitOutcome,
    DuplicateRequest,
    IdempotencyKeyReused,
    LeaseLost,
    VersionConflict,
    initial_lease_seconds,
)
from gateway.store.ledger_totals import BudgetBalance
from providers.faults import FaultKind


@dataclass
class ModelJob:
    """A job with its owner, due time and last commits."""

    job: Job
    due_at: float | None
    fence: int = FIRST_FENCE
    is_owned: bool = True
    reclaims: int = 0
    commits: list[Commit] = field(default_factory=list)
    previous_job: Job | None = None


@dataclass
class ModelDelivery:
    """A webhook in the outbox."""

    delivery: WebhookDelivery
    due_at: float
    attempts: int = 0


@dataclass
class ModelKey:
    """The record of a client's idempotency key."""

    fingerprint: str
    job_id: str
    expires_at: float


@dataclass
class ModelBodyEntry:
    """A job that was requested with a body, and its callers with their retry counts."""

    job_id: str
    callers: dict[str, float]
    awaits_first_request: bool
    expires_at: float
    has_ended: bool = False
    may_be_charged: bool = False
    is_refused: bool = False


class StoreModel:
    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.jobs: dict[str, ModelJob] = {}
        self.outbox: dict[str, ModelDelivery] = {}
        self.ledger: list[LedgerEntry] = []
        self._records: dict[tuple[str, str], ModelKey] = {}
        self._bodies: dict[tuple[str, str], list[ModelBodyEntry]] = {}

    @property
    def open_jobs(self) -> list[ModelJob]:
        return [entry for entry in self.jobs.values() if not entry.job.is_settled]

    @property
    def due_times(self) -> dict[str, float]:
        return {job_id: entry.due_at for job_id, entry in self.jobs.items() if entry.due_at is not None}

    def compute_balances(self) -> dict[tuple[str, str], BudgetBalance]:
        """Computes the balances from the jobs and the ledger alone."""
        held: Counter[tuple[str, str]] = Counter()
        spent: Counter[tuple[str, str]] = Counter()
        for entry in self.jobs.values():
            for window in budget_windows(entry.job.created_at):
                held[entry.job.team, window] += entry.job.hold
        for line in self.ledger:
            if line.line is LedgerLine.CAPTURE:
                for window in (line.day, line.day[:7]):
                    spent[line.team, window] += line.amount
        return {key: BudgetBalance(held=held[key], spent=spent[key]) for key in held.keys() | spent.keys()}

    def commit(self, commit: Commit, now: float) -> CommitOutcome:
        """Applies the commit to the model and returns the expected outcome."""
        entry = self.jobs.get(commit.job.id)
        refusal = self._find_outcome(entry, commit, now)
        if refusal is None:
            self._write(entry, commit, now)
        return refusal or Applied()

    def _find_outcome(self, entry: ModelJob | None, commit: Commit, now: float) -> CommitOutcome | None:
        if entry and commit.commit_id in [known.commit_id for known in entry.commits]:
            return Applied()
        if commit.expected_version != (entry.job.version if entry else 0):
            return VersionConflict()
        if entry and commit.fence is not None and not (entry.is_owned and commit.fence == entry.fence):
            return LeaseLost()
        return None if entry else self._find_refusal(commit, now)

    def find_by_idempotency(
        self, team: str, record: IdempotencyRecord, now: float
    ) -> DuplicateRequest | IdempotencyKeyReused | None:
        """Returns the expected result of a lookup before the commit."""
        return None if record.is_body_key and not record.is_retry else self._find_match(team, record, now)

    def _find_match(
        self, team: str, record: IdempotencyRecord, now: float
    ) -> DuplicateRequest | IdempotencyKeyReused | None:
        if record.is_body_key:
            return self._attach_caller(team, record, now)
        key = self._records.get((team, record.key))
        if key is None or key.expires_at <= now:
            return None
        return (
            DuplicateRequest(key.job_id) if key.fingerprint == record.fingerprint else IdempotencyKeyReused(key.job_id)
        )

    def _attach_caller(self, team: str, record: IdempotencyRecord, now: float) -> DuplicateRequest | None:
        chosen = self._find_entry(team, record, now)
        if chosen is None or chosen.is_refused:
            return None
        if record.caller_id not in chosen.callers:
            is_late = chosen.awaits_first_request and not record.is_retry
            for caller_id in self._list_predecessors(chosen, record)[-1:]:
                del chosen.callers[caller_id]
            chosen.callers[record.caller_id] = inf if is_late else record.retry_count
            chosen.awaits_first_request = chosen.awaits_first_request and not is_late
        return DuplicateRequest(chosen.job_id)

    @staticmethod
    def _list_predecessors(entry: ModelBodyEntry, record: IdempotencyRecord) -> list[str]:
        """Returns the callers that the same SDK may have sent before: the last one is the predecessor."""
        earlier = (
            caller_id
            for caller_id, retry_count in entry.callers.items()
            if record.is_retry and retry_count < record.retry_count
        )
        return sorted(earlier, key=entry.callers.__getitem__)

    def _find_entry(self, team: str, record: IdempotencyRecord, now: float) -> ModelBodyEntry | None:
        """Returns the entry that the request belongs to. Entries are sorted by age. A refusal means a new job."""
        entries = [entry for entry in self._bodies.get((team, record.key), []) if entry.expires_at > now]
        for entry in entries:
            if record.caller_id in entry.callers and not entry.is_refused:
                return entry
        awaiting = [entry for entry in entries if entry.awaits_first_request and not record.is_retry]
        abandoned = [entry for entry in entries if not entry.callers]
        superseding = [entry for entry in entries if self._list_predecessors(entry, record)]
        maybe_charged = [entry for entry in entries if entry.may_be_charged and not record.is_retry]
        return min(
            awaiting or abandoned or superseding or maybe_charged,
            key=lambda entry: (
                bool(entry.callers),
                -max(map(entry.callers.__getitem__, self._list_predecessors(entry, record)), default=0.0),
                not entry.is_refused,
                entry.has_ended,
            ),
            default=None,
        )

    def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        for entry in self._bodies.get((team, record.key), []) if record.is_body_key else []:
            if not entry.is_refused:
                entry.callers.pop(record.caller_id, None)

    def _find_refusal(self, commit: Commit, now: float) -> CommitOutcome | None:
        if (record := commit.idempotency) and (match := self._find_match(commit.job.team, record, now)):
            return match
        balances = self.compute_balances()
        for change in commit.budget_changes:
            balance = balances.get((commit.job.team, change.window), BudgetBalance())
            if change.limit is not None and balance.held + balance.spent + change.hold > change.limit:
                return BudgetExceeded(window=change.window, limit=change.limit, spent=balance.spent, held=balance.held)
        return None

    def _write(self, entry: ModelJob | None, commit: Commit, now: float) -> None:
        job = commit.job
        if entry is None:
            entry = self.jobs[job.id] = ModelJob(job=job, due_at=now + self.lease)
            self._save_record(job, commit.idempotency, now)
        elif not entry.is_owned and commit.due_at is not None:
            entry.due_at = now + max(0.0, commit.due_at - commit.committed_at)
        entry.previous_job = entry.job if entry.job is not job else None
        entry.job, entry.reclaims = job, 0
        entry.commits = [*entry.commits, commit][-MAX_REMEMBERED_COMMITS:]
        if job.is_settled:
            entry.due_at = None
        if commit.idempotency_ttl is not None:
            self._end_records(commit, commit.idempotency_ttl, now)
        self.ledger += commit.ledger_entries
        self.outbox |= {webhook.id: ModelDelivery(webhook, now) for webhook in commit.webhook_deliveries}

    def _end_records(self, commit: Commit, ttl: float, now: float) -> None:
        job = commit.job
        for entry in self._bodies.get((job.team, job.body_key or ""), []):
            if entry.job_id == job.id:
                entry.expires_at, entry.has_ended, entry.may_be_charged = now + ttl, True, commit.may_be_charged
                if commit.is_refused:
                    self._keep_refusal(entry, now)
        key = self._records.get((job.team, job.client_key or ""))
        if key and key.job_id == job.id:
            key.expires_at = now + ttl

    @staticmethod
    def _keep_refusal(entry: ModelBodyEntry, now: float) -> None:
        """Keeps the callers that an SDK counted: their first requests have all arrived."""
        entry.callers = {
            caller_id: retry_count for caller_id, retry_count in entry.callers.items() if 0 <= retry_count < inf
        }
        entry.is_refused = True
        if not entry.callers or entry.awaits_first_request:
            entry.expires_at = now

    def _save_record(self, job: Job, record: IdempotencyRecord | None, now: float) -> None:
        if record and record.is_body_key:
            refusal = self._find_entry(job.team, record, now)
            if refusal:
                del refusal.callers[self._list_predecessors(refusal, record)[-1]]
                if not refusal.callers:
                    refusal.expires_at = now
            awaits_first_request = record.is_retry and not refusal
            entry = ModelBodyEntry(
                job.id, {record.caller_id: record.retry_count}, awaits_first_request, now + record.ttl_seconds
            )
            self._bodies.setdefault((job.team, record.key), []).append(entry)
        elif record:
            self._records[job.team, record.key] = ModelKey(record.fingerprint, job.id, now + record.ttl_seconds)

    def claim_job(self, job_id: str, now: float) -> ModelJob:
        entry = self.jobs[job_id]
        entry.fence, entry.reclaims = entry.fence + 1, entry.reclaims + 1
        entry.is_owned, entry.due_at = True, now + initial_lease_seconds(entry.reclaims, self.lease)
        return entry

    def list_claimable_times(self, limit: int, now: float) -> list[float]:
        """Returns the due times of the jobs that a claim returns: all with at most one early crash, and one suspect."""
        entries = [entry for entry in self.jobs.values() if entry.due_at is not None and entry.due_at <= now]
        batch = sorted(entry.due_at or 0.0 for entry in entries if entry.reclaims < MAX_EARLY_CRASHES)
        suspects = sorted(entry.due_at or 0.0 for entry in entries if entry.reclaims >= MAX_EARLY_CRASHES)
        return batch[:limit] + suspects[:1]

    def renew_leases(self, leases: Mapping[str, int], now: float) -> frozenset[str]:
        """Returns the jobs that this replica no longer owns. There is one process here, so no owner crashes."""
        owned = {job_id for job_id, fence in leases.items() if self._is_owned_under_fence(job_id, fence)}
        for job_id in owned:
            self.jobs[job_id].due_at, self.jobs[job_id].reclaims = now + self.lease, 0
        return frozenset(leases.keys() - owned)

    def release_job(self, job_id: str, fence: int, due_at: float) -> bool:
        if not self._is_owned_under_fence(job_id, fence):
            return False
        entry = self.jobs[job_id]
        entry.due_at, entry.is_owned = due_at, False
        entry.reclaims = max(0, entry.reclaims - 1)
        return True

    def _is_owned_under_fence(self, job_id: str, fence: int) -> bool:
        entry = self.jobs[job_id]
        return entry.is_owned and entry.fence == fence and not entry.job.is_settled


def list_possible_commits(job: Job, fence: int, now: float) -> list[Commit]:
    """Lists every commit that would change this job."""
    commits = (build_update_commit(job, update, now) for update in _list_possible_updates(job, fence))
    return [commit for commit in commits if not isinstance(commit, Ignored)]


def _list_possible_updates(job: Job, fence: int) -> Iterator[JobUpdate]:
    yield CancelRequested()
    yield JobConfirmed()
    yield JobWithdrawn(fence=fence)
    yield JobExpired(fence=fence)
    yield JobAbandoned(fence=fence)
    for part in job.parts:
        if part.state is PartState.WAITING:
            for index, entry in enumerate(job.route):
                yield AttemptStarted(fence=fence, route_index=index, images=part.images[: entry.max_images])
            yield PartAbandoned(fence=fence, images=part.images)
    for attempt in job.attempts:
        yield from _list_attempt_updates(attempt.number, attempt.images, fence)


def _list_attempt_updates(number: int, images: tuple[int, ...], fence: int) -> Iterator[JobUpdate]:
    yield TicketReceived(attempt=number, ticket=f"ticket-{number}")
    yield ResponseLost(attempt=number)
    yield CallbackReceived(attempt=number)
    yield ImagesReady(attempt=number, cost=41_000)
    yield ImagesStored(attempt=number, images=images)
    yield ImagesStored(attempt=number, images=images[:1], made_count=len(images), cost=77_777)
    for kind in (FaultKind.UNAVAILABLE, FaultKind.ORDER_FAILED, FaultKind.RESPONSE_LOST, FaultKind.NO_IMAGES):
        yield OrderFailed(attempt=number, fault=kind)
    yield AttemptAbandoned(fence=fence, attempt=number, fault=FaultKind.ORDER_TIMED_OUT)
