"""Which live job of one body a request belongs to: the rules of `redis/lua/bodies.lua`, for stores that read Python."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import IdempotencyRecord

# Of one body; and of one job, of which none but the last are needed.
MAX_ENTRIES, MAX_CALLERS = 512, 16
# Of one body, and counted among its entries: each awaits one retry.
MAX_REFUSALS = 32
# Instead of a retry's number, for a caller whose place no retry takes.
IRREPLACEABLE = 1_000_000


class JobCaller(Struct, frozen=True, array_like=True):
    """A request that waits for a job, or was answered. `retry_count`: how often its SDK had sent it before."""

    caller_id: str
    retry_count: int


class BodyEntry(Struct, frozen=True):
    """One job that was asked for with this body. `number` is its place in the order of age.

    A caller that left without an answer is none of its `callers`. `awaits_first_request`: a retry made it, whose first request
    may still be on its way. `is_refused`: nothing was bought, and no request gets this job again; its callers are those
    that an SDK counted, whose next retries need jobs of their own and have no first request on its way.
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
    """The one that this request belongs to; None, or one that `is_refused`, if it needs a job of its own.

    A retry may get one that no caller waits for, or its predecessor's: ten retries get ten jobs, even before this
    gateway notices that ten connections broke. A first request may get one that awaits it, that no caller waits for,
    or that has ended and may have been bought.
    """
    entries = list(entries)
    if existing := next(
        (entry for entry in entries if entry.has_caller(record.caller_id) and not entry.is_refused), None
    ):
        return existing
    candidates = [entry for entry in entries if _can_attach(entry, record)]
    return min(candidates, key=lambda entry: _rank_entry(entry, record), default=None)


def add_caller(entry: BodyEntry, record: IdempotencyRecord) -> BodyEntry:
    """The entry with this caller, in place of its predecessor.

    A first request that comes late has been given up already: it has no place that another retry could take.
    """
    is_late, predecessor = entry.awaits_first_request and not record.is_retry, _find_predecessor(entry, record)
    others = [caller for caller in entry.callers if caller is not predecessor][-(MAX_CALLERS - 1) :]
    caller = JobCaller(record.caller_id, IRREPLACEABLE if is_late else record.retry_count)
    return replace(entry, callers=(*others, caller), awaits_first_request=entry.awaits_first_request and not is_late)


def refuse_entry(entry: BodyEntry) -> BodyEntry | None:
    """What is left of the entry of a job for which nothing was bought, if anything is: which first requests have come.

    Where the job's own first request is still on its way, the next retry awaits it, too.
    """
    counted = tuple(caller for caller in entry.callers if 0 <= caller.retry_count < IRREPLACEABLE)
    return replace(entry, callers=counted, is_refused=True) if counted and not entry.awaits_first_request else None


def follow_refusal(refusal: BodyEntry, asked: IdempotencyRecord) -> BodyEntry | None:
    """What is left of it when this retry has got a job of its own."""
    predecessor = _find_predecessor(refusal, asked)
    others = tuple(caller for caller in refusal.callers if caller is not predecessor)
    return replace(refusal, callers=others) if others else None


def _find_predecessor(entry: BodyEntry, record: IdempotencyRecord) -> JobCaller | None:
    """Its SDK has sent it last before this retry, and has given it up since."""
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
    """The one that makes room where there are too many: the oldest refusal, else the oldest that has ended, else the
    oldest."""
    entries = sorted(entries, key=lambda entry: (not entry.is_refused, not entry.has_ended, entry.number))
    return entries[0] if len(entries) >= MAX_ENTRIES else None


def find_superfluous_refusal(entries: Iterable[BodyEntry]) -> BodyEntry | None:
    refusals = [entry for entry in entries if entry.is_refused]
    return min(refusals, key=lambda entry: entry.number) if len(refusals) > MAX_REFUSALS else None
