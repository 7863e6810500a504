"""A commit: everything that one transition changes, written atomically. Derived by comparing the job before and
after."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import chain

import msgspec
from msgspec import Struct

from gateway.jobs.budgets import BudgetChange, BudgetLimit, list_budget_windows, list_owners
from gateway.jobs.document_names import list_prompt_document_names
from gateway.jobs.failed_job_retry_safety import is_safe_to_retry, may_have_been_charged
from gateway.jobs.job import Attempt, Job, JobState
from gateway.jobs.job_cleanup import get_next_cleanup
from gateway.jobs.job_outcome import encode_job_outcome, make_job_outcome
from gateway.jobs.job_update_types import Decision, JobUpdate
from gateway.jobs.next_actions import next_due
from gateway.jobs.transition_tables import LedgerLine
from gateway.jobs.transitions import Ignored, apply_update
from providers.faults import MODERATION_FAULTS, VERDICTS, HealthScope
from providers.orders import Cell

BODY_KEY_TTL_SECONDS = 120.0
# Retry count of a client that does not count its retries.
UNCOUNTED = -1


class LedgerEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A permanent ledger entry. Corrections are further entries with negative amounts.

    `day`, `hour`: of the hold, in UTC. `key_id`: the API key that created the job; `budget_key`: that of its budget, if
    it has one. `ticket`: the seller's id of the order. `reason`: why images of the order were not delivered, or why the
    entry was booked. They are empty in entries of older versions. `correction`: the id of the correction that booked
    it, without a commit of its job; of an unknown charge, `attempt` is 0. `charged_at`: of a correction, the time of
    the last charge that it was made from.
    """

    day: str
    posted_at: float
    line: LedgerLine
    amount: int
    images: int
    job: str
    attempt: int
    team: str
    model: str
    seller: str
    cell: Cell
    hour: int | None = None
    key_id: str = ""
    budget_key: str = ""
    ticket: str = ""
    reason: str = ""
    correction: str = ""
    charged_at: float | None = None

    @property
    def is_irregular(self) -> bool:
        """Whether the team does not pay it."""
        return self.line is not LedgerLine.CAPTURE


class Milestone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A public event of a job. `number` counts from 1 within the job, so that readers can resume.

    It has everything that its event says, so that an event is the same whenever it is read. `delivered_count`, `cost`:
    of the job, with this event.
    """

    number: int
    reached_at: float
    name: str
    image: int | None = None
    delivered_count: int = 0
    cost: int = 0


class WebhookDelivery(Struct, frozen=True, kw_only=True):
    """A webhook to be delivered. Its body is rendered from the job when it is sent."""

    id: str
    job: str
    event_name: str
    created_at: float


class IdempotencyRecord(Struct, frozen=True, kw_only=True):
    """Links a request to its job.

    `is_body_key`: the key is a hash of the body, shared by all live jobs with that body, not a client's
    Idempotency-Key. `retry_count`: how often the SDK says it has sent the request before, or UNCOUNTED.
    `has_refused_first`: this process refused the first request of a retry before it became a job. `caller_id`:
    identifies this request among those with the same key, so that a repeated commit counts one caller.
    """

    key: str
    fingerprint: str
    ttl_seconds: float = 86_400.0
    is_body_key: bool = False
    retry_count: int = 0
    has_refused_first: bool = False
    caller_id: str = ""

    @property
    def is_retry(self) -> bool:
        """Whether the request repeats an earlier one."""
        return self.retry_count > 0

    @property
    def awaits_first_request(self) -> bool:
        """Whether the first request may still arrive."""
        return self.is_retry and not self.has_refused_first


class Commit(Struct, frozen=True, kw_only=True):
    """Compare-and-set on the job's version. `commit_id` makes a repeated commit idempotent.

    `due_at`: when a worker must look at the job again; None if settled. `budget_limits`: the store refuses a new job
    whose hold would exceed one of them. `idempotency_ttl`: how long the idempotency record outlives the job that ends
    here. `may_be_charged`: it is unknown whether the ended job was charged. `is_refused`: nothing was charged, and a
    repeated request creates a new job. `decision_record`: of a new job; `job_outcome`: of a settled one, added to its
    record. Both are kept independently of the job. `cleanup_at`: when something of the settled job is to be deleted
    next; None of an open one.
    """

    job: Job
    expected_version: int
    commit_id: str
    committed_at: float
    encoded_job: bytes
    fence: int | None = None
    due_at: float | None = None
    cleanup_at: float | None = None
    budget_changes: tuple[BudgetChange, ...] = ()
    budget_limits: tuple[BudgetLimit, ...] = ()
    idempotency: IdempotencyRecord | None = None
    idempotency_ttl: float | None = None
    may_be_charged: bool = False
    is_refused: bool = False
    webhook_deliveries: tuple[WebhookDelivery, ...] = ()
    milestones: tuple[Milestone, ...] = ()
    ledger_entries: tuple[LedgerEntry, ...] = ()
    documents: Mapping[str, bytes] = {}
    removed_documents: tuple[str, ...] = ()
    decision_record: bytes | None = None
    job_outcome: bytes | None = None


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Job)


def build_update_commit(job: Job, update: JobUpdate, now: float) -> Commit | Ignored:
    """Builds the commit for an update; Ignored if the update changes nothing. Pure."""
    changed = apply_update(job, update, now)
    if isinstance(changed, Ignored):
        return changed
    fence = update.fence if isinstance(update, Decision) else None
    return build_commit(job, changed, now, fence)


def build_commit(old: Job | None, new: Job, now: float, fence: int | None = None) -> Commit:
    """Builds the commit between two states of a job; `old` is None for a new one.

    The commit sets the job's version: however many updates led to the new state, the next one is the next version.
    """
    expected_version, milestones = old.version if old else 0, _make_milestones(old, new, now)
    is_settled = new.is_settled
    ends_prompt = is_settled and not new.has_deleted_prompt and not new.retention.prompt_seconds
    if ends_prompt:
        new = msgspec.structs.replace(new, has_deleted_prompt=True)
    milestone_count = new.milestone_count + len(milestones)
    new = msgspec.structs.replace(new, version=expected_version + 1, milestone_count=milestone_count)
    encoded_job = _ENCODER.encode(new)
    becomes_terminal = new.state.is_terminal and not (old and old.state.is_terminal)
    return Commit(
        job=new,
        expected_version=expected_version,
        commit_id=hashlib.blake2b(encoded_job, digest_size=8, key=str(fence).encode()).hexdigest(),
        committed_at=now,
        encoded_job=encoded_job,
        fence=fence,
        due_at=None if is_settled else next_due(new, now),
        cleanup_at=cleanup.at if is_settled and (cleanup := get_next_cleanup(new)) else None,
        budget_changes=_make_budget_changes(old, new),
        idempotency_ttl=_idempotency_ttl(new) if becomes_terminal else None,
        may_be_charged=becomes_terminal and may_have_been_charged(new),
        is_refused=becomes_terminal and is_safe_to_retry(new),
        webhook_deliveries=_make_webhook_deliveries(new, now) if becomes_terminal else (),
        milestones=milestones,
        ledger_entries=tuple(_make_ledger_entries(old, new, now)),
        removed_documents=list_prompt_document_names(new) if ends_prompt else (),
        job_outcome=encode_job_outcome(make_job_outcome(new)) if is_settled else None,
    )


def _idempotency_ttl(job: Job) -> float | None:
    """Returns how long a repeated request still finds this job.

    A client's key outlives its job, except for a withdrawn job: then the same key creates a new job.
    """
    if job.body_key is not None:
        return BODY_KEY_TTL_SECONDS
    return 0.0 if job.is_withdrawn and job.client_key else None


def decode_job(encoded_job: bytes) -> Job:
    return _DECODER.decode(encoded_job)


def get_hour(created_at: float) -> int:
    """Returns the hour (UTC) of a job's creation."""
    return int(created_at % 86_400 // 3_600)


def _make_budget_changes(old: Job | None, new: Job) -> tuple[BudgetChange, ...]:
    hold = new.hold - (old.hold if old else 0)
    spend = new.captured_amount - (old.captured_amount if old else 0)
    if not hold and not spend:
        return ()
    return tuple(
        [
            BudgetChange(owner=owner, window=window, hold=hold, spend=spend)
            for owner in list_owners(new.team, new.budget_key)
            for window in list_budget_windows(new.created_at)
        ]
    )


def _make_ledger_entries(old: Job | None, new: Job, now: float) -> Iterator[LedgerEntry]:
    for attempt in new.attempts:
        if attempt.state.is_open:
            # Its cost is not booked before it is known.
            continue
        before = old.get_attempt(attempt.number) if old else None
        entry = new.route_entry(attempt)
        changes = _list_line_changes(attempt, before, new.get_excess(attempt.number))
        if entry.is_canary:
            changes = chain(changes, _list_failed_changes(attempt, before))
        for line, amount, images in changes:
            yield LedgerEntry(
                day=list_budget_windows(new.created_at)[0],
                posted_at=now,
                line=line,
                amount=amount,
                images=images,
                job=new.id,
                attempt=attempt.number,
                team=new.team,
                model=new.model,
                seller=entry.seller,
                cell=entry.cell,
                hour=get_hour(new.created_at),
                key_id=new.key_id,
                budget_key=new.budget_key,
                ticket=attempt.ticket or "",
                reason="" if line in (LedgerLine.CAPTURE, LedgerLine.EXCESS) else attempt.fault or "",
            )


def _list_line_changes(attempt: Attempt, before: Attempt | None, excess: int) -> Iterator[tuple[LedgerLine, int, int]]:
    """Yields the change of each ledger line, with the number of images it covers."""
    if attempt is before:
        return
    delivered_count = attempt.delivered_count - (before.delivered_count if before else 0)
    # Images that the moderation withholds are not missing: the seller delivered them, and its canary counts the others.
    missing_count = 0 if attempt.fault in MODERATION_FAULTS else len(attempt.images) - attempt.delivered_count
    amounts = (
        (LedgerLine.CAPTURE, attempt.captured_amount, before.captured_amount if before else 0),
        (LedgerLine.ORPHAN, attempt.orphaned_amount, before.orphaned_amount if before else 0),
        (LedgerLine.SUSPECTED, attempt.suspected_amount, before.suspected_amount if before else 0),
        # Known when the attempt closes with its images; never corrected.
        (LedgerLine.EXCESS, excess, excess if before and not before.state.is_open else 0),
    )
    for line, amount, previous in amounts:
        images = (
            delivered_count
            if line in (LedgerLine.CAPTURE, LedgerLine.EXCESS)
            else missing_count
            if amount > previous
            else -missing_count
        )
        if amount != previous or (line is LedgerLine.CAPTURE and images):
            yield line, amount - previous, images


def _list_failed_changes(attempt: Attempt, before: Attempt | None) -> Iterator[tuple[LedgerLine, int, int]]:
    """Yields the change of the images that the seller of an attempt should have delivered, and did not, for nothing."""
    images = _count_failed(attempt) - (_count_failed(before) if before else 0)
    if images:
        yield LedgerLine.FAILED, 0, images


def _count_failed(attempt: Attempt) -> int:
    """Counts the images that are on no other line. An order that failed without the fault of its seller has none."""
    is_sellers_fault = attempt.fault is not None and VERDICTS[attempt.fault].health_scope is not HealthScope.NONE
    is_booked = bool(attempt.orphaned_amount or attempt.suspected_amount)
    return 0 if not is_sellers_fault or is_booked else len(attempt.images) - attempt.delivered_count


def _make_milestones(old: Job | None, new: Job, now: float) -> tuple[Milestone, ...]:
    reached: list[tuple[str, int | None]] = []
    delivered_before = old.delivered_images if old else ()
    if old is None:
        reached.append((JobState.QUEUED, None))
    if new.attempts and not (old and old.attempts):
        reached.append((JobState.IN_PROGRESS, None))
    if not (old and old.state.is_terminal):
        reached += [("image", image) for image in new.delivered_images if image not in delivered_before]
        if new.state.is_terminal:
            reached.append((new.state, None))
    milestones, delivered_count, cost = [], len(delivered_before), new.captured_amount if reached else 0
    for number, (name, image) in enumerate(reached, new.milestone_count + 1):
        delivered_count += image is not None
        milestones.append(
            Milestone(number=number, reached_at=now, name=name, image=image, delivered_count=delivered_count, cost=cost)
        )
    return tuple(milestones)


def _make_webhook_deliveries(new: Job, now: float) -> tuple[WebhookDelivery, ...]:
    if not new.has_webhook:
        return ()
    delivery_id = _make_delivery_id(new.id, new.state)
    return (WebhookDelivery(id=delivery_id, job=new.id, event_name=f"job.{new.state}", created_at=now),)


def list_delivery_ids(job_id: str) -> tuple[str, ...]:
    """Returns the ids that webhooks of this job can have: one for each state in which it can end."""
    return tuple(_make_delivery_id(job_id, state) for state in JobState if state.is_terminal)


def _make_delivery_id(job_id: str, state: JobState) -> str:
    return f"{job_id}-{state}"
