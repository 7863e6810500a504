"""The Store protocol, its errors, and the outcomes of a commit. One conformance suite tests every store against it.

The tree of errors is drawn in `gateway/__init__.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from msgspec import Struct

from gateway.events import ComponentError
from gateway.jobs.budgets import BudgetLimit
from gateway.jobs.commit import Commit, IdempotencyRecord, LedgerEntry, Milestone, WebhookDelivery
from gateway.jobs.job import Job
from gateway.store.api_keys import ApiKeyStore
from gateway.store.audit import AuditReport
from gateway.store.decision_record_pages import DecisionRecordPage, StoredDecisionRecord
from gateway.store.job_pages import ALL_JOBS, JobFilter, JobPage, JobPosition
from gateway.store.job_watch import JobWatch
from gateway.store.ledger_sums import LineSum, TotalsQuery
from gateway.store.ledger_totals import BudgetBalance, Correction, LedgerTotal
from gateway.store.statistics import StoreStatistics
from gateway.store.team_records import TeamRecordStore

DAY_SECONDS = 86_400.0
FIRST_FENCE = 1
# A commit that is sent again is recognised among this many last commits of its job.
MAX_REMEMBERED_COMMITS = 8
# A job is claimed alone if this many of its owners in a row crashed early: the job may be the cause.
MAX_EARLY_CRASHES = 2
MAX_LEASE_SECONDS = 3_600.0
# Two renewals in a row may fail before a lease ends.
RENEWALS_PER_LEASE = 3
# A week is the sum of its days, so the balances of days are kept for longer.
MIN_BUDGET_SECONDS = 8 * DAY_SECONDS
# Signals are deleted after this time.
SIGNAL_TTL_SECONDS = 60.0
# A store keeps the mark of a process that closed normally for this time: longer than its last jobs with callers run.
CLOSED_MARK_TTL_SECONDS = 86_400.0


def initial_lease_seconds(reclaims: int, lease: float) -> float:
    """Returns the lease of a new claim. It doubles with each owner that crashed while it ran the job alone, up to
    MAX_LEASE_SECONDS. Renewals shorten it only after the count of reclaims is reset."""
    crashes = max(0, reclaims - MAX_EARLY_CRASHES - 1)
    return max(lease, min(lease * 2.0 ** min(crashes, 64), MAX_LEASE_SECONDS))


def min_survival_seconds(max_owned_seconds: float, lease: float) -> float:
    """Returns how long an owner must work on a job before the job counts as harmless. That is clearly longer than any
    owner that crashed could have worked: until just before its next renewal. Returns 0 if no crashed owner reached a
    renewal."""
    return 2 * (max_owned_seconds + lease / RENEWALS_PER_LEASE) if max_owned_seconds else 0.0


class StoreError(ComponentError):
    """The store failed. The text is written for operators."""

    component = "store"


class StoreUnavailable(StoreError):
    """The store cannot be reached or cannot write at the moment. Retrying is safe."""


class StoreOutcomeUnknown(StoreUnavailable):
    """The store received the command and did not answer. It may have executed the command, or may do so later.

    Every other StoreUnavailable means that nothing was done.
    """


class StoreFull(StoreUnavailable):
    """There is no room for new jobs. Updates of existing jobs may still be recorded."""

    is_public = True


class StoreReadOnly(StoreUnavailable):
    """The store can be read, and refuses every write. The text says why, and what to do."""

    is_public = True


class StoreMisconfigured(StoreUnavailable):
    """The store would lose jobs with its present configuration. The text says what to change."""


class Retention(Struct, frozen=True, kw_only=True):
    """How long data that outlives its job is kept, in seconds from its day. Each job has the retention of its own
    content (`JobRetention`)."""

    decisions: float = 90 * DAY_SECONDS
    ledger: float = 90 * DAY_SECONDS
    totals: float = 396 * DAY_SECONDS
    admin_events: float = 400 * DAY_SECONDS


# --- outcomes of a commit


class Applied(Struct, frozen=True):
    """The commit is applied: now, or already when it was sent before."""


class VersionConflict(Struct, frozen=True):
    """The job has changed since it was loaded. Load it and apply the update again."""


class LeaseLost(Struct, frozen=True):
    """Another replica owns the job now. This one must not decide about it any more."""


class BudgetExceeded(Struct, frozen=True, kw_only=True):
    """The hold would exceed a budget of the team or of the API key. No job was created."""

    limit: BudgetLimit
    spent: int
    held: int

    @property
    def left(self) -> int:
        return max(0, self.limit.amount - self.spent - self.held)


class DuplicateRequest(Struct, frozen=True):
    """The request belongs to an existing job. No job was created."""

    job_id: str


class IdempotencyKeyReused(Struct, frozen=True):
    """The idempotency key was used by a different request, which created the job `job_id`. No new job was created."""

    job_id: str


IdempotencyMatch = DuplicateRequest | IdempotencyKeyReused
CommitOutcome = Applied | VersionConflict | LeaseLost | BudgetExceeded | IdempotencyMatch


def needs_lookup(record: IdempotencyRecord) -> bool:
    """Returns whether the record must be looked up before its commit: it has a client's key, or it is a retry."""
    return record.is_retry or not record.is_body_key


def match_fingerprint(record: IdempotencyRecord, fingerprint: str, job_id: str) -> IdempotencyMatch:
    """Compares the fingerprint that is stored under the key with that of the request. Returns whether it is the same
    request or a reused key."""
    return DuplicateRequest(job_id) if fingerprint == record.fingerprint else IdempotencyKeyReused(job_id)


# --- results


class ClaimedJob(Struct, frozen=True, kw_only=True):
    """A job that this replica owns, until the store issues a later fence or the replica releases the job.

    `reclaims`: claims since the job last changed, or since an owner outlived `min_survival_seconds`, this one included.
    `max_owned_seconds`: the longest time, by its renewals, that an owner worked on it before it crashed.
    """

    job: Job
    fence: int
    reclaims: int
    max_owned_seconds: float = 0.0

    @property
    def is_suspect(self) -> bool:
        """Whether the job may have crashed its last owners and must run alone."""
        return self.reclaims > MAX_EARLY_CRASHES


class ClaimedDelivery(Struct, frozen=True, kw_only=True):
    """A webhook that this replica sends until the lease ends. `attempts` includes this one."""

    delivery: WebhookDelivery
    attempts: int


class Store(Protocol):
    """Stores jobs. A commit is applied completely or not at all, and only once, however often it is sent.

    If the task that awaits a call is cancelled, the call is still executed. Every call may raise StoreUnavailable.
    `is_shared`: other replicas may change jobs, too. `retention`: how long entries and totals are kept.
    """

    replica_id: str
    partitions: Sequence[int]
    is_shared: bool
    retention: Retention

    async def open(self) -> Self:
        """Connects and checks the server or file. Raises StoreMisconfigured if jobs could be lost; `warnings` lists
        lesser problems."""

    async def close(self) -> None:
        """Finishes pending calls and closes all connections."""

    @property
    def warnings(self) -> tuple[str, ...]: ...

    @property
    def api_keys(self) -> ApiKeyStore:
        """The API keys and admin events. Only for an open store."""

    @property
    def team_records(self) -> TeamRecordStore:
        """The files and batches of teams. Only for an open store."""

    @property
    def statistics(self) -> StoreStatistics:
        """What metrics read. Only for an open store."""

    async def commit(self, commit: Commit) -> CommitOutcome:
        """Applies a commit if the job still has the expected version. This replica owns a new job: its fence is
        FIRST_FENCE and its lease begins now.

        An owned job is due when its lease ends, any other job at the time in the commit. If a Redis is full, it refuses
        only new jobs (StoreFull). SQLite refuses everything until its disk has room.

        If the request belongs to an existing job (`repeated_request_matching.py`), no job is created and the request
        becomes a caller of that job. A first request clears `awaits_first_request` of the entry that awaited it. A job
        that ended and charged nothing is not given to any request: its entry only records, for one retry, that a first
        request has arrived.

        Raises StoreOutcomeUnknown if the commit may still be applied. In that case a new job is unconfirmed, and no
        owner orders its images.
        """

    async def announce_job(self, job_id: str, timeout_seconds: float) -> None:
        """Registers a job whose inputs are stored before it is created. Unless it is created within `timeout_seconds`,
        `list_jobs_to_clean_up` returns it, so that its inputs are deleted."""

    async def find_by_idempotency(self, team: str, record: IdempotencyRecord) -> IdempotencyMatch | None:
        """Looks the record up like a commit of a new job, and returns the match, or None. A retry becomes a caller of
        the job that is found. A first request without a key is not looked up."""

    async def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        """Removes the caller of this request from its job, since its client disconnected. Safe to repeat."""

    async def load_job(self, job_id: str) -> Job | None: ...

    async def load_documents(self, job_id: str, *names: str) -> Mapping[str, bytes]:
        """Returns the named documents. Those that do not exist are missing from the result."""

    async def load_decision_record(self, job_id: str) -> StoredDecisionRecord | None:
        """Returns the decision record of a job, which outlives the job."""

    async def list_decision_records(
        self, day: str, team: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> DecisionRecordPage:
        """Lists the decision records of a day, in any order: of the jobs whose ids were created on that day (UTC).
        Raises ValueError if the cursor is invalid.

        In Redis a page may have some more records than `limit`, and while jobs are added, a record may be listed twice.
        """

    async def delete_decision_records(self, *job_ids: str) -> None:
        """Deletes the decision records of these jobs, and nothing else. An outcome that is committed later is dropped.
        Safe to repeat."""

    async def claim_jobs(self, limit: int = 100) -> tuple[ClaimedJob, ...]:
        """Claims jobs that are due and whose lease has ended, soonest first. Each gets a new fence and lease.

        At most one of them, always the last, is a suspect: its lease has `initial_lease_seconds`. Callers that waited
        at the former owner are removed, since their connections are lost.
        """

    async def renew_leases(self, leases: Mapping[str, int]) -> frozenset[str]:
        """Renews the leases of these jobs (job id to fence). Returns the ids of jobs that this replica no longer owns.
        Partitions that cannot be reached are skipped; StoreUnavailable if none can be.

        Resets the reclaims of a job whose owner has worked on it for longer than `min_survival_seconds`. Until then, a
        renewal does not shorten the longer lease of a suspect."""

    async def expire_leases_of_killed_replicas(self) -> int:
        """Ends the leases of replicas whose processes have ended: their jobs can be claimed now. Suspects keep their
        leases. Returns how many ended.

        A replica that is paused, or whose connections cannot be seen, keeps its leases until they end."""

    async def release_job(self, job_id: str, fence: int, delay: float) -> bool:
        """Releases a job: due again after `delay` seconds, for any replica. The claim is not counted. Returns False if
        this replica did not own it."""

    async def list_jobs(
        self, team: str, limit: int = 20, after: JobPosition | None = None, job_filter: JobFilter = ALL_JOBS
    ) -> JobPage:
        """Lists the jobs of a team that the filter selects, newest first, behind the position `after`.

        A page may have fewer jobs than `limit`, even none, and a next page: it examines MAX_SCANNED_JOBS at most."""

    async def list_milestones(self, job_id: str, after_number: int = 0) -> tuple[Milestone, ...]:
        """Lists the job's milestones with a number above `after_number`, in order."""

    async def load_balances(self, team: str, *windows: str, key_id: str = "") -> Mapping[str, BudgetBalance]:
        """Loads the balances of a team, or of the budget of one of its API keys, in these days and months."""

    async def list_ledger_entries(
        self, day: str, team: str | None = None, *, is_irregular: bool = False
    ) -> tuple[LedgerEntry, ...]:
        """Lists all entries of a day, in the order of their creation within each partition. `is_irregular`: only those
        of other lines than captures, which are few."""

    async def delete_ledger_entries(self, day: str, team: str) -> None:
        """Deletes the ledger entries of a team on a day that is not audited any more (`list_audit_days`). Their totals
        are kept. Safe to repeat."""

    async def list_day_totals(self, first_day: str, last_day: str, team: str | None = None) -> tuple[LedgerTotal, ...]:
        """Lists the totals of these days, both included. Raises ValueError if a date is invalid or there are more than
        MAX_DAYS."""

    async def sum_totals(self, query: TotalsQuery) -> tuple[LineSum, ...]:
        """Sums the totals of days or hours. Takes as long as there are totals, however many jobs the store has. Raises
        ValueError if the periods are invalid or too many."""

    async def post_correction(self, correction: Correction) -> bool:
        """Books the entries of a correction with their totals, as a whole and once: returns False, and books nothing,
        if it was booked before. It changes no budget."""

    async def claim_deliveries(self, limit: int = 20, lease: float = 60.0) -> tuple[ClaimedDelivery, ...]:
        """Claims webhooks that are due. Each is due again when its lease ends, unless it is acknowledged or scheduled
        for a retry."""

    async def ack_delivery(self, delivery_id: str, job_id: str) -> None:
        """Removes a webhook that was delivered, or whose delivery is given up."""

    async def retry_delivery(self, delivery_id: str, job_id: str, delay: float) -> None:
        """Schedules another attempt after `delay` seconds."""

    async def publish_signal(self, name: str, value: bytes) -> None:
        """Publishes a value to all replicas. The last value of each name is kept for SIGNAL_TTL_SECONDS."""

    async def read_signals(self) -> Mapping[str, bytes]:
        """Returns the values that all replicas published within SIGNAL_TTL_SECONDS, this one included."""

    def watch(self, job_id: str) -> JobWatch:
        """Watches a job for changes by any replica. Enter it before loading the job, so that no change is missed."""

    async def audit(self, partition: int, repair: bool = True) -> AuditReport:
        """Recomputes holds, spends and due times from jobs and ledger, reports discrepancies and repairs them."""

    async def claim_audit(self, interval_seconds: float) -> bool:
        """Returns whether this replica audits all partitions now: at most one replica does in each interval."""

    async def list_jobs_to_clean_up(self, limit: int = 100) -> tuple[str, ...]:
        """Lists settled jobs of which something is to be deleted (`get_next_cleanup`), and announced jobs that were
        never created. Delete the images of a job before the job."""

    async def delete_job(self, job_id: str) -> None:
        """Deletes a job and everything that is stored with it, except its ledger entries and its decision record. Safe
        to repeat."""

    async def delete_expired(self) -> None:
        """Deletes ledger entries, totals, balances of days, decision records, idempotency keys, signals and admin
        events whose retention has ended."""
