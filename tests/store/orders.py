"""Jobs for tests: what is asked for, what becomes of it, and a clock that only tests move."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

from gateway.catalogue import Cell
from gateway.jobs.accepting import Acceptance, accept
from gateway.jobs.commit import Commit, IdempotencyRecord, Limits, apply, windows_of
from gateway.jobs.facts import AttemptOpened, Happening, PicturesDelivered, TicketLearned
from gateway.jobs.job import Job, Place, Trace
from gateway.store.partitions import new_job_id, partition_of
from providers.orders import Operation, Quality
from providers.sizes import Resolution

T = TypeVar("T")
_callers = count()
# Far ahead, so that what Redis itself forgets on a date is never forgotten in the middle of a test.
NOON = datetime(2040, 5, 10, 12, tzinfo=UTC).timestamp()
DAY, MONTH = windows_of(NOON)
PRICE, CEILING = 40_000, 50_000
CELL = Cell(Operation.GENERATE, Resolution.ONE_K, Quality.LOW)
PLACE = Place(
    seller="runapi",
    adapter="runapi",
    model="gpt-image-2",
    cell=CELL,
    images=4,
    price=PRICE,
    ceiling=CEILING,
    patience=420.0,
    asks=True,
    trace=Trace.SEARCH,
)
OTHER_PLACE = PLACE.__class__(
    "runflow", "runflow_run", "gpt-image-2", CELL, 1, 45_000, 48_000, 420.0, True, Trace.CALLBACK
)


class Clock:
    """Stands still unless it is moved."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def teams_of_one_partition(number: int, like: str = "acme") -> tuple[str, ...]:
    names = (f"neighbour-{count_}" for count_ in count())
    same = (name for name in names if partition_of(name) == partition_of(like))
    return (like, *(next(same) for _ in range(number - 1)))


def teams_of_different_partitions(number: int) -> tuple[str, ...]:
    chosen: dict[int, str] = {}
    for name in _names():
        chosen.setdefault(partition_of(name), name)
        if len(chosen) == number:
            return tuple(chosen.values())
    raise AssertionError("there are no more names")


def _names() -> Iterator[str]:
    yield from (f"team-{number}" for number in count())


def acceptance(now: float, team: str = "acme", **changes: Any) -> Commit:
    """A new job's first commit. `day` and `month` are limits."""
    asked: dict[str, Any] = {"n": 1, "route": (PLACE, OTHER_PLACE), "id": new_job_id(team), "model": "gpt-image-2"}
    limits = Limits(day=changes.pop("day", None), month=changes.pop("month", None))
    return accept(Acceptance(team=team, limits=limits, **{**asked, **changes}), now)


def changed(job: Job, happening: Happening, now: float) -> Commit:
    commit = apply(job, happening, now)
    assert isinstance(commit, Commit), f"the test asks for nothing: {commit}"
    return commit


def opened(job: Job, fence: int = 1, place: int = 0) -> AttemptOpened:
    return AttemptOpened(fence=fence, place=place, images=tuple(range(job.n)))


def ticket(attempt: int = 1) -> TicketLearned:
    return TicketLearned(attempt=attempt, ticket=f"ticket-{attempt}")


def delivered(job: Job, attempt: int = 1, **said: Any) -> PicturesDelivered:
    return PicturesDelivered(attempt=attempt, images=tuple(range(job.n)), **said)


def key(name: str = "key-1", fingerprint: str = "body-1", seconds: float = 86_400.0) -> IdempotencyRecord:
    """What a caller brings."""
    return IdempotencyRecord(key=name, fingerprint=fingerprint, seconds=seconds)


def soft(
    attach: bool | int, name: str = "digest-1", caller: str | None = None, seconds: float = 86_400.0
) -> IdempotencyRecord:
    """What is worked out of a body that came without a key; each caller is another one, unless the test says so.

    `attach`: which retry it is; -1 for a client that does not count.
    """
    caller = caller or f"one:{next(_callers)}"
    return IdempotencyRecord(key=name, fingerprint=name, seconds=seconds, soft=True, retry=int(attach), caller=caller)


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """All at once."""
    return list(await asyncio.gather(*calls))


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
