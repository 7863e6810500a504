"""The data that all replicas of a store in memory share, and how a commit changes it.

Every method is one atomic step. `tests/store/store_state_machine.py` compares the real stores with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from msgspec import Struct
from msgspec.structs import astuple

from gateway.jobs.commit import Commit, IdempotencyRecord, Milestone, WebhookDelivery
from gateway.jobs.job import Job
from gateway.store.base import (
    CLOSED_MARK_TTL_SECONDS,
    FIRST_FENCE,
    MAX_REMEMBERED_COMMITS,
    SIGNAL_TTL_SECONDS,
    Applied,
    ClaimedDelivery,
    CommitOutcome,
    IdempotencyMatch,
    LeaseLost,
    VersionConflict,
    needs_lookup,
)
from gateway.store.job_pages import JobFilter, JobPage, JobPosition, PageBuilder
from gateway.store.job_watch import JobWatchers
from gateway.store.ledger_totals import BudgetBalance
from gateway.store.partitions import team_partition
from tests.harness.memory_store.memory_api_keys import MemoryApiKeyTable
from tests.harness.memory_store.memory_decision_records import MemoryDecisionRecords
from tests.harness.memory_store.memory_ledger import MemoryLedger, compute_balances
from tests.harness.memory_store.memory_team_records import MemoryTeamRecordTable
from tests.harness.memory_store.request_keys import RequestKeys


class LeaseOwner(Struct, frozen=True):
    """The replica that makes a call, and the duration of its leases in seconds."""

    replica_id: str
    lease: float


class AppliedCommit(Struct, frozen=True):
    """A commit that was applied: when, and by which replica."""

    commit: Commit
    replica_id: str
    applied_at: float


class Claim(Struct, frozen=True):
    """A claim of a job: by which replica, when, and how many attempts the job had."""

    replica_id: str
    claimed_at: float
    attempt_count: int


@dataclass
class StoredJob:
    """A job with its owner, its last commits, and what is stored beside it."""

    job: Job
    owner: str | None
    fence: int = FIRST_FENCE
    reclaims: int = 0
    claimed_at: float | None = None
    owned_seconds: float = 0.0
    max_owned_seconds: float = 0.0
    settled_at: float | None = None
    commits: list[Commit] = field(default_factory=list)
    milestones: list[Milestone] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)

    @property
    def previous_job(self) -> Job | None:
        """The job before its last commit."""
        return self.commits[-2].job if len(self.commits) > 1 else None

    def has_active_fence(self, fence: int) -> bool:
        return self.owner is not None and self.fence == fence

    def find_refusal(self, commit: Commit) -> VersionConflict | LeaseLost | None:
        """Returns the reason why this job must not be updated, or None."""
        if commit.expected_version != self.job.version:
            return VersionConflict()
        if commit.fence is not None and not self.has_active_fence(commit.fence):
            return LeaseLost()
        return None

    def apply_commit(self, commit: Commit) -> None:
        self.job, self.reclaims = commit.job, 0
        self.claimed_at, self.owned_seconds, self.max_owned_seconds = None, 0.0, 0.0
        self.commits = [*self.commits, commit][-MAX_REMEMBERED_COMMITS:]
        if commit.job.is_settled and self.settled_at is None:
            self.settled_at = commit.committed_at
        for name in commit.removed_documents:
            self.documents.pop(name, None)
        self.documents = {**commit.documents, **self.documents}
        self.milestones += commit.milestones


@dataclass
class StoredDelivery:
    """A webhook in the outbox."""

    delivery: WebhookDelivery
    due_at: float
    attempts: int = 0


class MemoryState:
    """The data of a store, like a Redis server. It outlives the replicas that use it.

    `history`: every commit that was applied, in order. `claims`: every claim, by job and fence. `replicas`: the open
    replicas, with their watches.
    """

    def __init__(self, partition_count: int = 1) -> None:
        self.partition_count = partition_count
        self.jobs: dict[str, StoredJob] = {}
        self.due_times: dict[str, float] = {}
        self.outbox: dict[str, StoredDelivery] = {}
        self.announced: dict[str, float] = {}
        self._audited_at: float | None = None
        self.signals: dict[str, tuple[bytes, float]] = {}
        self.ledger = MemoryLedger()
        self.api_keys = MemoryApiKeyTable()
        self.team_records = MemoryTeamRecordTable()
        self.decision_records = MemoryDecisionRecords()
        self.request_keys = RequestKeys()
        self.history: list[AppliedCommit] = []
        self.claims: dict[tuple[str, int], Claim] = {}
        self.replicas: dict[str, JobWatchers] = {}
        self.closed_marks: dict[str, float] = {}
        self.heartbeats: dict[str, float] = {}
        self._replica_numbers = count(1)

    @property
    def open_jobs(self) -> list[StoredJob]:
        return [stored for stored in self.jobs.values() if stored.settled_at is None]

    def compute_balances(self) -> dict[tuple[str, str], BudgetBalance]:
        """Computes the balances from the jobs and the ledger alone."""
        return compute_balances((stored.job for stored in self.jobs.values()), self.ledger.entries)

    def get_partition(self, team: str) -> int:
        return team_partition(team) % self.partition_count

    # --- replicas

    def make_replica_id(self) -> str:
        return f"memory-{next(self._replica_numbers)}"

    def open_replica(self, replica_id: str, watchers: JobWatchers) -> None:
        self.replicas[replica_id] = watchers
        self.closed_marks.pop(replica_id, None)

    def close_replica(self, replica_id: str, now: float) -> None:
        """Closes a replica whose callers got a response or are removed. A killed replica leaves no such mark."""
        self.replicas.pop(replica_id, None)
        self.heartbeats.pop(replica_id, None)
        self.closed_marks[replica_id] = now

    def kill_replica(self, replica_id: str) -> None:
        self.replicas.pop(replica_id, None)

    def was_killed(self, replica_id: str | None) -> bool:
        """Returns whether a replica was killed: it has sent a heartbeat, and its process has ended."""
        return replica_id in self.heartbeats and replica_id not in self.replicas

    def notify_watchers(self, job: Job) -> None:
        for watchers in self.replicas.values():
            watchers.notify(job.id, job.version)

    # --- commits

    def commit(self, commit: Commit, owner: LeaseOwner, now: float) -> CommitOutcome:
        stored = self.jobs.get(commit.job.id)
        if stored is not None and any(known.commit_id == commit.commit_id for known in stored.commits):
            return Applied()
        refusal = stored.find_refusal(commit) if stored else self._find_refusal(commit, now)
        if refusal is None:
            stored = stored or self._create_job(commit, owner, now)
            stored.apply_commit(commit)
            self._set_due_time(stored, commit, now + owner.lease, now)
            self._apply_related_changes(commit, now)
            self.history.append(AppliedCommit(commit, owner.replica_id, now))
        return refusal or Applied()

    def _find_refusal(self, commit: Commit, now: float) -> CommitOutcome | None:
        """Returns the reason why a new job must not be created, or None."""
        if commit.expected_version != 0:
            return VersionConflict()
        match = self._find_match(commit.job.team, commit.idempotency, now) if commit.idempotency else None
        return match or self.ledger.find_exceeded_budget(commit)

    def _create_job(self, commit: Commit, owner: LeaseOwner, now: float) -> StoredJob:
        job = commit.job
        self.announced.pop(job.id, None)
        self.request_keys.add_job(job, commit.idempotency, now)
        stored = self.jobs[job.id] = StoredJob(job, owner.replica_id)
        return stored

    def _set_due_time(self, stored: StoredJob, commit: Commit, lease_ends_at: float, now: float) -> None:
        """An owned job is due when its lease ends, any other job at the time in the commit."""
        if commit.job.is_settled:
            self.due_times.pop(commit.job.id, None)
        elif stored.owner is None and commit.due_at is not None:
            self.due_times[commit.job.id] = now + max(0.0, commit.due_at - commit.committed_at)
        else:
            self.due_times.setdefault(commit.job.id, lease_ends_at)

    def _apply_related_changes(self, commit: Commit, now: float) -> None:
        self.request_keys.end_job(commit, now)
        self.ledger.book_commit(commit)
        self.decision_records.apply_commit(commit)
        for delivery in commit.webhook_deliveries:
            self.outbox.setdefault(delivery.id, StoredDelivery(delivery, now))

    def announce_job(self, job_id: str, expires_at: float) -> None:
        self.announced[job_id] = expires_at

    # --- reading

    def load_job(self, job_id: str) -> Job | None:
        stored = self.jobs.get(job_id)
        return stored.job if stored else None

    def load_documents(self, job_id: str, names: Iterable[str]) -> dict[str, bytes]:
        documents = self.jobs[job_id].documents if job_id in self.jobs else {}
        return {name: documents[name] for name in names if name in documents}

    def list_milestones(self, job_id: str, after_number: int) -> tuple[Milestone, ...]:
        milestones = self.jobs[job_id].milestones if job_id in self.jobs else []
        return tuple(milestone for milestone in milestones if milestone.number > after_number)

    def list_jobs(self, team: str, limit: int, after: JobPosition | None, job_filter: JobFilter) -> JobPage:
        builder = PageBuilder(limit, after, job_filter)
        jobs = sorted(
            (stored.job for stored in self.jobs.values() if stored.job.team == team),
            key=lambda job: (job.created_at, job.id),
            reverse=True,
        )
        entries = [(JobPosition(job.created_at, job.id), job) for job in jobs]
        while builder.page is None:
            position = builder.position
            older = [entry for entry in entries if position is None or astuple(entry[0]) < astuple(position)]
            builder.add_batch(older[: builder.batch_size])
        return builder.page

    # --- repeated requests

    def find_by_idempotency(self, team: str, record: IdempotencyRecord, now: float) -> IdempotencyMatch | None:
        return self._find_match(team, record, now) if needs_lookup(record) else None

    def _find_match(self, team: str, record: IdempotencyRecord, now: float) -> IdempotencyMatch | None:
        """Finds the job of a request. If there is none, the callers of killed replicas are removed first."""
        match = self.request_keys.find_match(team, record, now)
        if match is not None or not record.is_body_key:
            return match
        if self.request_keys.remove_callers(team, record.key, lambda caller_id: self._is_dead(caller_id, now)):
            return self.request_keys.find_match(team, record, now)
        return None

    def _is_dead(self, caller_id: str, now: float) -> bool:
        """Returns whether the replica of the caller was killed."""
        replica_id, separator, _ = caller_id.rpartition(":")
        closed_at = self.closed_marks.get(replica_id)
        has_closed = closed_at is not None and closed_at > now - CLOSED_MARK_TTL_SECONDS
        return bool(separator) and replica_id not in self.replicas and not has_closed

    def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        if record.is_body_key:
            self.request_keys.remove_callers(team, record.key, lambda caller_id: caller_id == record.caller_id)

    # --- webhooks and signals

    def list_due_deliveries(self, limit: int, now: float) -> list[str]:
        """Lists the ids of webhooks that are due, soonest first."""
        due = [(stored.due_at, delivery_id) for delivery_id, stored in self.outbox.items() if stored.due_at <= now]
        return [delivery_id for _, delivery_id in sorted(due, key=lambda pair: pair[0])[:limit]]

    def claim_deliveries(self, limit: int, now: float, lease_ends_at: float) -> tuple[ClaimedDelivery, ...]:
        return tuple(self.claim_delivery(name, lease_ends_at) for name in self.list_due_deliveries(limit, now))

    def claim_delivery(self, delivery_id: str, lease_ends_at: float) -> ClaimedDelivery:
        stored = self.outbox[delivery_id]
        stored.due_at, stored.attempts = lease_ends_at, stored.attempts + 1
        return ClaimedDelivery(delivery=stored.delivery, attempts=stored.attempts)

    def ack_delivery(self, delivery_id: str) -> None:
        self.outbox.pop(delivery_id, None)

    def retry_delivery(self, delivery_id: str, due_at: float) -> None:
        """Schedules another attempt, unless the webhook was delivered meanwhile."""
        if stored := self.outbox.get(delivery_id):
            stored.due_at = due_at

    def claim_audit(self, interval_seconds: float, now: float) -> bool:
        if self._audited_at is not None and now < self._audited_at + interval_seconds:
            return False
        self._audited_at = now
        return True

    def publish_signal(self, name: str, value: bytes, now: float) -> None:
        self.signals[name] = value, now

    def read_signals(self, now: float) -> dict[str, bytes]:
        return {
            name: value
            for name, (value, published_at) in self.signals.items()
            if published_at > now - SIGNAL_TTL_SECONDS
        }

    # --- deletion

    def delete_job(self, job_id: str) -> None:
        for table in (self.jobs, self.due_times, self.announced):
            table.pop(job_id, None)
        self.outbox = {name: stored for name, stored in self.outbox.items() if stored.delivery.job != job_id}
