"""Deduplicates requests without an idempotency key: decides by their body to which existing job they belong.

`redis/lua/repeated_request_matching.lua` implements the same rules.
"""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import IdempotencyRecord

# The maximum number of entries of one body, and of callers of one job. Only the last ones are needed.
MAX_ENTRIES, MAX_CALLERS = 512, 16
# The maximum number of refusals of one body, which are some of its entries. Each awaits one retry.
MAX_REFUSALS = 32
# The retry count that marks a caller as not replaceable by a retry.
IRREPLACEABLE = 1_000_000


class JobCaller(Struct, frozen=True, array_like=True):
    """A request that waits for a job, or that got its response. `retry_count`: how often its SDK had sent it before."""

    caller_id: str
    retry_count: int


class BodyEntry(Struct, frozen=True):
    """A job that was requested with this body. Older entries have lower numbers.

    Callers that disconnected without a response are removed from `callers`. `awaits_first_request`: a retry created the
    job, and its first request may still arrive. `is_refused`: the job ended and charged nothing, so it is not given to
    any other request. Such a refusal keeps the callers that an SDK counted: their next retries need jobs of their own,
    which await no first request.
    """

    number: int
    job_id: str
    callers: tuple[JobCaller, ...]
    awaits_first_request: bool = False
    has_ended: bool = False
    may_be_charged: bool = False
    is_refused: bool = False

    def has_caller(self, caller_id: str) -> bool:
        return any(caller.caller_id == caller_id for caller in self.callers)


def find_entry(entries: Iterable[BodyEntry], record: IdempotencyRecord) -> BodyEntry | None:
    """Returns the entry that this request belongs to. If this returns None or an entry that `is_refused`, the request
    needs a separate job.

    A retry can get a job without callers, or the job of its predecessor. So ten retries get ten jobs, even before this
    gateway notices that ten connections broke. A first request can get a job that awaits it, that has no callers, or
    that has ended and may be charged.
    """
    entries = list(entries)
    if existing := next(
        (entry for entry in entries if entry.has_caller(record.caller_id) and not entry.is_refused), None
    ):
        return existing
    candidates = [entry for entry in entries if _can_attach(entry, record)]
    return min(candidates, key=lambda entry: _rank_entry(entry, record), default=None)


def add_caller(entry: BodyEntry, record: IdempotencyRecord) -> BodyEntry:
    """Returns the entry in which this caller replaces its predecessor.

    If a first request arrives late, its client has already given it up, so no retry can replace it.
    """
    is_late, predecessor = entry.awaits_first_request and not record.is_retry, _find_predecessor(entry, record)
    others = [caller for caller in entry.callers if caller is not predecessor][-(MAX_CALLERS - 1) :]
    caller = JobCaller(record.caller_id, IRREPLACEABLE if is_late else record.retry_count)
    return replace(entry, callers=(*others, caller), awaits_first_request=entry.awaits_first_request and not is_late)


def make_refusal(entry: BodyEntry) -> BodyEntry | None:
    """Turns the entry of a job that charged nothing into a refusal. The refusal records the first requests that have
    arrived.

    Returns None if there is nothing to record. This is also the case while the job awaits its own first request: the
    next retry awaits that request, too.
    """
    counted_callers = tuple(caller for caller in entry.callers if 0 <= caller.retry_count < IRREPLACEABLE)
    if not counted_callers or entry.awaits_first_request:
        return None
    return replace(entry, callers=counted_callers, is_refused=True)


def remove_predecessor(refusal: BodyEntry, record: IdempotencyRecord) -> BodyEntry | None:
    """Returns the refusal without the predecessor of this retry, which got a job of its own. Returns None if no callers
    are left."""
    predecessor = _find_predecessor(refusal, record)
    others = tuple(caller for caller in refusal.callers if caller is not predecessor)
    return replace(refusal, callers=others) if others else None


def _find_predecessor(entry: BodyEntry, record: IdempotencyRecord) -> JobCaller | None:
    """Returns the predecessor of this retry: the request that its SDK sent last and has given up since."""
    earlier = [caller for caller in entry.callers if record.is_retry and caller.retry_count < record.retry_count]
    return max(earlier, key=lambda caller: caller.retry_count, default=None)


def _can_attach(entry: BodyEntry, record: IdempotencyRecord) -> bool:
    if not entry.callers:
        return True
    if record.is_retry or entry.is_refused:
        return _find_predecessor(entry, record) is not None
    return entry.awaits_first_request or entry.may_be_charged


def _rank_entry(entry: BodyEntry, record: IdempotencyRecord) -> tuple[bool, bool, int, bool, bool, int]:
    is_awaited = entry.awaits_first_request and not record.is_retry
    predecessor = _find_predecessor(entry, record)
    distance = record.retry_count - predecessor.retry_count if predecessor else 0
    return not is_awaited, bool(entry.callers), distance, not entry.is_refused, entry.has_ended, entry.number


def find_entry_to_evict(entries: Iterable[BodyEntry]) -> BodyEntry | None:
    """Returns the entry to delete if there are too many: the oldest refusal, else the oldest ended job, else the oldest
    job."""
    entries = sorted(entries, key=lambda entry: (not entry.is_refused, not entry.has_ended, entry.number))
    return entries[0] if len(entries) >= MAX_ENTRIES else None


def find_superfluous_refusal(entries: Iterable[BodyEntry]) -> BodyEntry | None:
    """Returns the oldest refusal if there are too many refusals."""
    refusals = [entry for entry in entries if entry.is_refused]
    return min(refusals, key=lambda entry: entry.number) if len(refusals) > MAX_REFUSALS else None
