"""What every store can do, and how it answers. One conformance suite holds all of them to the words of this page."""

from collections.abc import Mapping, Sequence
from typing import Protocol, Self

from msgspec import Struct

from gateway.events import ComponentError
from gateway.jobs.commit import Commit, IdempotencyRecord, LedgerEntry, Milestone, WebhookDelivery
from gateway.jobs.job import Job
from gateway.store.audit import AuditReport
from gateway.store.job_watch import JobWatch
from gateway.store.ledger_totals import BudgetBalance, DayTotal

DAY_SECONDS = 86_400.0
FIRST_FENCE = 1
# How many of a job's last changes know themselves when they are sent again.
MAX_REMEMBERED_COMMITS = 8
# After so many early crashes of its owners in a row, a job runs alone: another of their jobs may be the cause.
MAX_EARLY_CRASHES = 2
MAX_LEASE_SECONDS = 3_600.0
# Two renewals of a lease may come late or never before it ends.
RENEWALS_PER_LEASE = 3


def initial_lease_seconds(reclaims: int, lease: float) -> float:
    """The first lease of a claim. It grows with each crash of an owner that ran the job alone, so that such a job
    crashes owners less and less often. Renewals do not shorten it until the count of claims is reset."""
    crashes = max(0, reclaims - MAX_EARLY_CRASHES - 1)
    return max(lease, min(lease * 2.0 ** min(crashes, 64), MAX_LEASE_SECONDS))


def min_survival_seconds(max_owned_seconds: float, lease: float) -> float:
    """How long an owner must work on a job to show that the job does not crash it: clearly longer than any owner that
    crashed, which may have worked until its next renewal. If none of those reached a renewal, any renewal shows it."""
    return 2 * (max_owned_seconds + lease / RENEWALS_PER_LEASE) if max_owned_seconds else 0.0


class StoreError(ComponentError):
    """The store did not do it, in words for an operator."""

    component = "store"


class StoreUnavailable(StoreError):
    """Not to be reached, or not able to write just now: the same again later is safe."""


class StoreOutcomeUnknown(StoreUnavailable):
    """It was asked and did not answer: it may have done it, and may do it yet. Any other StoreUnavailable says that it
    did nothing, and will not."""


class StoreFull(StoreUnavailable):
    """There is no room for new jobs. What is known of old ones is still recorded."""


class StoreMisconfigured(StoreError):
    """It would lose jobs as it is configured: says what to change."""


class Retention(Struct, frozen=True, kw_only=True):
    """For how long what is kept, in seconds. Jobs count from their settling, money from the day it belongs to."""

    jobs: float = 7 * DAY_SECONDS
    ledger: float = 90 * DAY_SECONDS
    totals: float = 396 * DAY_SECONDS


# --- how a commit is answered


class Applied(Struct, frozen=True):
    """It is done, now or when it was sent before."""


class VersionConflict(Struct, frozen=True):
    """Somebody else changed the job: load it and apply the happening to what it is now."""


class LeaseLost(Struct, frozen=True):
    """Somebody else owns the job now: decide nothing more about it."""


class BudgetExceeded(Struct, frozen=True, kw_only=True):
    """The team's limit for this window would be passed. Nothing was accepted."""

    window: str
    limit: int
    spent: int
    held: int


class DuplicateRequest(Struct, frozen=True):
    """This request has made that job before. Nothing was accepted."""

    job_id: str


class IdempotencyKeyReused(Struct, frozen=True):
    """The idempotency key belongs to another request, which made that job. Nothing was accepted."""

    job_id: str


IdempotencyMatch = DuplicateRequest | IdempotencyKeyReused
CommitOutcome = Applied | VersionConflict | LeaseLost | BudgetExceeded | IdempotencyMatch


def needs_lookup(record: IdempotencyRecord) -> bool:
    """Whether the record is looked up before its commit: one without a key only if the request says that it repeats."""
    return record.is_retry or not record.is_body_key


def match_fingerprint(record: IdempotencyRecord, fingerprint: str, job_id: str) -> IdempotencyMatch:
    """What a caller's key has found, by the fingerprint of the request that made the job."""
    return DuplicateRequest(job_id) if fingerprint == record.fingerprint else IdempotencyKeyReused(job_id)


# --- what is read


class ClaimedJob(Struct, frozen=True, kw_only=True):
    """A job that is now ours to decide about, while our fence is the last one given out and we have not given it away.

    `reclaims`: the claims, this one included, since the job's last change or since an owner worked on it for longer than
    `min_survival_seconds`. `max_owned_seconds`: the longest time, by its renewals, that an owner worked on it before it crashed.
    """

    job: Job
    fence: int
    reclaims: int
    max_owned_seconds: float = 0.0

    @property
    def is_suspect(self) -> bool:
        """Whether the job may have crashed its last owners, so that it must run alone."""
        return self.reclaims > MAX_EARLY_CRASHES


class JobPage(Struct, frozen=True):
    """Jobs, newest first; `next_cursor` is the cursor of the next page, None on the last one."""

    jobs: tuple[Job, ...]
    next_cursor: str | None


class ClaimedDelivery(Struct, frozen=True, kw_only=True):
    """A webhook that is ours to send until the lease ends; `attempts` counts this one."""

    delivery: WebhookDelivery
    attempts: int


class Store(Protocol):
    """All or nothing, and safe to repeat: a commit that was sent twice, or whose answer was lost, is done once.

    Whoever awaits a call may be cancelled: what was sent is still done. Every call may raise StoreUnavailable.
    """

    replica_id: str
    partitions: Sequence[int]

    async def open(self) -> Self:
        """Connects and checks; StoreUnfit if jobs would be lost as it is configured. `warnings` says what to know."""

    async def close(self) -> None:
        """Finishes what was sent, and lets go of everything."""

    @property
    def warnings(self) -> tuple[str, ...]: ...

    async def commit(self, commit: Commit) -> CommitOutcome:
        """Compare-and-set. A new job is owned by this process, its fence is FIRST_FENCE and its lease begins now.

        An owned job is due when its lease ends, any other when the commit says. A full Redis refuses new jobs only
        (StoreFull); a full disk under SQLite refuses everything until there is room.

        A new job whose request belongs to a job that is there is not accepted (`bodies.py` says which), and its caller
        becomes that job's. A first asking takes away the mark of the entry that awaited it. No request is given a job
        that ended with nothing bought: its entry only says, to one retry, that a first request has come.

        StoreUnsure where a commit may still be done; a new job is not confirmed then, and no owner buys it.
        """

    async def announce_job(self, job_id: str, timeout_seconds: float) -> None:
        """Something of this job will lie elsewhere before it is accepted: unless that is done within so many seconds,
        `list_deletable_jobs` names it, so that what lies there is found. Its acceptance ends this."""

    async def find_by_idempotency(self, team: str, record: IdempotencyRecord) -> IdempotencyMatch | None:
        """What a commit of a new job would find under this record. A repeated request becomes a caller of that job.
        None: a commit would accept it, unless another request comes first. A first request without a key is not looked
        up."""

    async def remove_caller(self, team: str, record: IdempotencyRecord) -> None:
        """The request's caller has left without an answer: it is removed from whichever job of its body
        it waited for. Safe to repeat."""

    async def load_job(self, job_id: str) -> Job | None: ...

    async def load_documents(self, job_id: str, *names: str) -> Mapping[str, bytes]:
        """Those of the named documents that lie beside the job."""

    async def claim_jobs(self, limit: int = 100) -> tuple[ClaimedJob, ...]:
        """Jobs whose time has come and whose lease is over, soonest first; each gets a new fence and a new lease.

        At most one of them, the last, is a suspect; its lease is as long as `initial_lease_seconds` says. Callers that waited for
        one at another owner's have lost their connections: they are its callers no more.
        """

    async def renew_leases(self, leases: Mapping[str, int]) -> frozenset[str]:
        """Renews the leases of these jobs, given with their fences. Returns those that are not ours any more. Where
        some of them cannot be reached the others are renewed; StoreUnavailable if none can.

        Resets the count of claims of a job whose owner has worked on it for longer than `min_survival_seconds`. Until then
        the renewal does not shorten the longer lease of a suspect."""

    async def release_job(self, job_id: str, fence: int, delay: float) -> bool:
        """Gives the job away: due again in so many seconds, to whoever claims it. This claim does not count: the
        job did not crash us. False if it was not ours."""

    async def list_jobs(self, team: str, limit: int = 20, cursor: str | None = None) -> JobPage:
        """A team's jobs, newest first. ValueError for a cursor that is none."""

    async def list_milestones(self, job_id: str, after_number: int = 0) -> tuple[Milestone, ...]:
        """Those with a higher number than `after`, in order."""

    async def load_balances(self, team: str, *windows: str) -> Mapping[str, BudgetBalance]: ...

    async def list_ledger_entries(self, day: str, team: str | None = None) -> tuple[LedgerEntry, ...]:
        """All entries of a day, in the order they were made (within each partition)."""

    async def list_day_totals(self, first_day: str, last_day: str, team: str | None = None) -> tuple[DayTotal, ...]:
        """Day totals from one day to another, both included. ValueError for no day, or more than ten years."""

    async def claim_deliveries(self, limit: int = 20, lease: float = 60.0) -> tuple[ClaimedDelivery, ...]:
        """Webhooks whose time has come. Unless acknowledged or postponed, each comes again when the lease is over."""

    async def ack_delivery(self, delivery_id: str, job_id: str) -> None:
        """It need not be sent again: it has arrived, or never will."""

    async def retry_delivery(self, delivery_id: str, job_id: str, delay: float) -> None:
        """It did not arrive: try again in so many seconds."""

    async def publish_signal(self, name: str, value: bytes) -> None:
        """Tells the other replicas; each name's last value is kept for a minute."""

    async def read_signals(self) -> Mapping[str, bytes]:
        """What all replicas have told within the last minute, this one included."""

    def watch(self, job_id: str) -> JobWatch:
        """Hears of every change of this job, whoever makes it. Open it before loading, so that none is missed."""

    async def audit(self, partition: int, repair: bool = True) -> AuditReport:
        """Works out holds, spends and due times anew from jobs and ledger, and mends what differs."""

    async def list_deletable_jobs(self, limit: int = 100) -> tuple[str, ...]:
        """Settled jobs that have been kept for their time, and announced ones that were not accepted in theirs.
        Whatever of them lies elsewhere must go before they do."""

    async def delete_job(self, job_id: str) -> None:
        """With all that lies beside it; its money stays. Safe to repeat."""

    async def delete_expired(self) -> None:
        """Forgets money, keys and signals that have been kept for their time."""
