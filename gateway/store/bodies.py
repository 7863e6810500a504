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
NEVER = 1_000_000


class Caller(Struct, frozen=True, array_like=True):
    """A request that waits for a job, or was answered. `retry`: how often its SDK had sent it before."""

    name: str
    retry: int


class BodyEntry(Struct, frozen=True):
    """One job that was asked for with this body. `number` is its place in the order of age.

    A caller that left without an answer is none of its `callers`. `expects_first`: a retry made it, whose first request
    may still be on its way. `is_refused`: nothing was bought, and no request gets this job again; its callers are those
    that an SDK counted, whose next retries need jobs of their own and have no first request on its way.
    """

    number: int
    job: str
    callers: tuple[Caller, ...]
    expects_first: bool = False
    has_ended: bool = False
    may_be_bought: bool = False
    is_refused: bool = False

    def has_caller(self, name: str) -> bool:
        return any(caller.name == name for caller in self.callers)


def find_entry(entries: Iterable[BodyEntry], asked: IdempotencyRecord) -> BodyEntry | None:
    """The one that this request belongs to; None, or one that `is_refused`, if it needs a job of its own.

    A retry may get one that no caller waits for, or its predecessor's: ten retries get ten jobs, even before this
    gateway notices that ten connections broke. A first request may get one that awaits it, that no caller waits for,
    or that has ended and may have been bought.
    """
    entries = list(entries)
    if known := next((entry for entry in entries if entry.has_caller(asked.caller) and not entry.is_refused), None):
        return known
    fitting = [entry for entry in entries if _may_have(entry, asked)]
    return min(fitting, key=lambda entry: _preference(entry, asked), default=None)


def add_caller(entry: BodyEntry, asked: IdempotencyRecord) -> BodyEntry:
    """The entry with this caller, in place of its predecessor.

    A first request that comes late has been given up already: it has no place that another retry could take.
    """
    is_late, predecessor = entry.expects_first and not asked.attach, _find_predecessor(entry, asked)
    others = [caller for caller in entry.callers if caller is not predecessor][-(MAX_CALLERS - 1) :]
    caller = Caller(asked.caller, NEVER if is_late else asked.retry)
    return replace(entry, callers=(*others, caller), expects_first=entry.expects_first and not is_late)


def refuse_entry(entry: BodyEntry) -> BodyEntry | None:
    """What is left of the entry of a job for which nothing was bought, if anything is: which first requests have come.

    Where the job's own first request is still on its way, the next retry awaits it, too.
    """
    counted = tuple(caller for caller in entry.callers if 0 <= caller.retry < NEVER)
    return replace(entry, callers=counted, is_refused=True) if counted and not entry.expects_first else None


def follow_refusal(refusal: BodyEntry, asked: IdempotencyRecord) -> BodyEntry | None:
    """What is left of it when this retry has got a job of its own."""
    predecessor = _find_predecessor(refusal, asked)
    others = tuple(caller for caller in refusal.callers if caller is not predecessor)
    return replace(refusal, callers=others) if others else None


def _find_predecessor(entry: BodyEntry, asked: IdempotencyRecord) -> Caller | None:
    """Its SDK has sent it last before this retry, and has given it up since."""
    earlier = [caller for caller in entry.callers if asked.attach and caller.retry < asked.retry]
    return max(earlier, key=lambda caller: caller.retry, default=None)


def _may_have(entry: BodyEntry, asked: IdempotencyRecord) -> bool:
    if not entry.callers:
        return True
    if asked.attach or entry.is_refused:
        return _find_predecessor(entry, asked) is not None
    return entry.expects_first or entry.may_be_bought


def _preference(entry: BodyEntry, asked: IdempotencyRecord) -> tuple[bool, bool, int, bool, bool, int]:
    is_awaited = entry.expects_first and not asked.attach
    predecessor = _find_predecessor(entry, asked)
    distance = asked.retry - predecessor.retry if predecessor else 0
    return not is_awaited, bool(entry.callers), distance, not entry.is_refused, entry.has_ended, entry.number


def find_superfluous(entries: Iterable[BodyEntry]) -> BodyEntry | None:
    """The one that makes room where there are too many: the oldest refusal, else the oldest that has ended, else the
    oldest."""
    entries = sorted(entries, key=lambda entry: (not entry.is_refused, not entry.has_ended, entry.number))
    return entries[0] if len(entries) >= MAX_ENTRIES else None


def find_superfluous_refusal(entries: Iterable[BodyEntry]) -> BodyEntry | None:
    refusals = [entry for entry in entries if entry.is_refused]
    return min(refusals, key=lambda entry: entry.number) if len(refusals) > MAX_REFUSALS else None
