"""The keys by which a repeated request finds its job: the keys of clients, and the hashes of bodies.

Independent of `gateway/store/repeated_request_matching.py`, so random histories compare two versions of the rules.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.job import Job
from gateway.store.base import DuplicateRequest, IdempotencyMatch, match_fingerprint
from gateway.store.repeated_request_matching import MAX_CALLERS, MAX_ENTRIES, MAX_REFUSALS


@dataclass
class StoredKey:
    """The record of a client's idempotency key."""

    fingerprint: str
    job_id: str
    expires_at: float


@dataclass
class StoredBodyEntry:
    """A job that was requested with a body, and its callers with their retry counts."""

    job_id: str
    callers: dict[str, float]
    awaits_first_request: bool
    expires_at: float
    has_ended: bool = False
    may_be_charged: bool = False
    is_refused: bool = False

    def find_predecessor(self, record: IdempotencyRecord) -> str | None:
        """Returns the caller that the same SDK sent last before this retry."""
        earlier = [name for name, count in self.callers.items() if record.is_retry and count < record.retry_count]
        return max(earlier, key=self.callers.__getitem__, default=None)


class RequestKeys:
    """All keys of all teams. The entries of one body are sorted by age."""

    def __init__(self) -> None:
        self._client_keys: dict[tuple[str, str], StoredKey] = {}
        self._bodies: dict[tuple[str, str], list[StoredBodyEntry]] = {}

    def find_match(self, team: str, record: IdempotencyRecord, now: float) -> IdempotencyMatch | None:
        """Returns the job that the request belongs to. A request without a key becomes a caller of that job."""
        if record.is_body_key:
            return self._attach_caller(team, record, now)
        key = self._client_keys.get((team, record.key))
        if key is None or key.expires_at <= now:
            return None
        return match_fingerprint(record, key.fingerprint, key.job_id)

    def _attach_caller(self, team: str, record: IdempotencyRecord, now: float) -> DuplicateRequest | None:
        chosen = self._find_entry(team, record, now)
        if chosen is None or chosen.is_refused:
            return None
        if record.caller_id not in chosen.callers:
            _add_caller(chosen, record)
        return DuplicateRequest(chosen.job_id)

    def _find_entry(self, team: str, record: IdempotencyRecord, now: float) -> StoredBodyEntry | None:
        """Returns the entry that the request belongs to. A refusal means a new job."""
        entries = [entry for entry in self._bodies.get((team, record.key), []) if entry.expires_at > now]
        for entry in entries:
            if record.caller_id in entry.callers and not entry.is_refused:
                return entry
        awaiting = [entry for entry in entries if entry.awaits_first_request and not record.is_retry]
        abandoned = [entry for entry in entries if not entry.callers]
        superseding = [entry for entry in entries if entry.find_predecessor(record)]
        maybe_charged = [entry for entry in entries if entry.may_be_charged and not record.is_retry]
        return min(
            awaiting or abandoned or superseding or maybe_charged,
            key=lambda entry: (
                bool(entry.callers),
                -entry.callers.get(entry.find_predecessor(record) or "", 0.0),
                not entry.is_refused,
                entry.has_ended,
            ),
            default=None,
        )

    def add_job(self, job: Job, record: IdempotencyRecord | None, now: float) -> None:
        """Adds the new job of a request that belongs to no other job."""
        if record and record.is_body_key:
            self._add_entry(job, record, now)
        elif record:
            self._client_keys[job.team, record.key] = StoredKey(record.fingerprint, job.id, now + record.ttl_seconds)

    def _add_entry(self, job: Job, record: IdempotencyRecord, now: float) -> None:
        refusal = self._find_entry(job.team, record, now)
        entries = [entry for entry in self._bodies.get((job.team, record.key), []) if entry.expires_at > now]
        if refusal and (predecessor := refusal.find_predecessor(record)):
            del refusal.callers[predecessor]
            refusal.expires_at = refusal.expires_at if refusal.callers else now
        if len(entries) >= MAX_ENTRIES:
            entries.remove(min(entries, key=lambda entry: (not entry.is_refused, not entry.has_ended)))
        callers: dict[str, float] = {record.caller_id: record.retry_count}
        awaits_first_request = record.awaits_first_request and refusal is None
        entries.append(StoredBodyEntry(job.id, callers, awaits_first_request, now + record.ttl_seconds))
        self._bodies[job.team, record.key] = entries

    def end_job(self, commit: Commit, now: float) -> None:
        """Records the end of a job. Its keys are kept for a while."""
        job = commit.job
        if commit.idempotency_ttl is None:
            return
        expires_at = now + commit.idempotency_ttl
        key = self._client_keys.get((job.team, job.client_key or ""))
        if key and key.job_id == job.id:
            key.expires_at = expires_at
        entries = self._bodies.get((job.team, job.body_key or ""), [])
        for entry in entries:
            if entry.job_id == job.id and entry.expires_at > now:
                entry.expires_at, entry.has_ended, entry.may_be_charged = expires_at, True, commit.may_be_charged
                if commit.is_refused:
                    _refuse_entry(entry, now)
        refusals = [entry for entry in entries if entry.is_refused and entry.expires_at > now]
        if len(refusals) > MAX_REFUSALS:
            refusals[0].expires_at = now

    def remove_callers(self, team: str, key: str, has_left: Callable[[str], bool], job_id: str | None = None) -> bool:
        """Removes the callers that have left, of one job or of all jobs of the body. Returns whether there were any.

        A refusal keeps its callers: it records that their first requests have arrived.
        """
        has_changed = False
        for entry in self._bodies.get((team, key), []):
            if not entry.is_refused and job_id in (None, entry.job_id):
                remaining = {name: count for name, count in entry.callers.items() if not has_left(name)}
                has_changed = has_changed or len(remaining) < len(entry.callers)
                entry.callers = remaining
        return has_changed

    def delete_expired(self, now: float) -> None:
        self._client_keys = {name: key for name, key in self._client_keys.items() if key.expires_at > now}
        live = {name: [entry for entry in body if entry.expires_at > now] for name, body in self._bodies.items()}
        self._bodies = {name: entries for name, entries in live.items() if entries}


def _add_caller(entry: StoredBodyEntry, record: IdempotencyRecord) -> None:
    """Adds a caller in place of its predecessor. No retry replaces a first request that arrives late."""
    is_late = entry.awaits_first_request and not record.is_retry
    if predecessor := entry.find_predecessor(record):
        del entry.callers[predecessor]
    if len(entry.callers) >= MAX_CALLERS:
        del entry.callers[next(iter(entry.callers))]
    entry.callers[record.caller_id] = inf if is_late else record.retry_count
    entry.awaits_first_request = entry.awaits_first_request and not is_late


def _refuse_entry(entry: StoredBodyEntry, now: float) -> None:
    """Turns the entry into a refusal. It keeps the callers that an SDK counted: their first requests have arrived."""
    entry.callers = {name: count for name, count in entry.callers.items() if 0 <= count < inf}
    entry.is_refused = True
    if not entry.callers or entry.awaits_first_request:
        entry.expires_at = now
