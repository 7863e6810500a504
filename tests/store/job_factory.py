"""Makes jobs, updates and idempotency records for tests."""

import asyncio
from collections.abc import Awaitable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

import msgspec

from gateway.jobs.budgets import BudgetLimit, BudgetLimits, WindowKind, get_window, list_budget_windows
from gateway.jobs.commit import Commit, IdempotencyRecord, build_update_commit
from gateway.jobs.first_commit import NewJob, build_first_commit
from gateway.jobs.job import Job, RecoveryMethod, RouteEntry
from gateway.jobs.job_update_types import AttemptStarted, ImagesStored, JobUpdate, TicketReceived
from gateway.store.base import BudgetExceeded
from gateway.store.partitions import new_job_id, team_partition
from providers.orders import Cell, Operation

T = TypeVar("T")
_caller_numbers = count()
# Far ahead, so that Redis expires no key by its date during a test.
NOON = datetime(2040, 5, 10, 12, tzinfo=UTC).timestamp()
DAY, MONTH = list_budget_windows(NOON)
PRICE, CEILING = 40_000, 50_000
CELL = Cell(Operation.GENERATE, "1k", "low")
ROUTE_ENTRY = RouteEntry(
    seller="runapi",
    adapter="runapi",
    model="gpt-image-2",
    cell=CELL,
    max_images=4,
    price=PRICE,
    ceiling=CEILING,
    timeout_seconds=420.0,
    is_pollable=True,
    recovery_method=RecoveryMethod.SEARCH,
)
OTHER_ROUTE_ENTRY = ROUTE_ENTRY.__class__(
    "runflow", "runflow_run", "gpt-image-2", CELL, 1, 45_000, 48_000, 420.0, True, RecoveryMethod.CALLBACK
)


def pick_teams_of_one_partition(team_count: int, first_team: str = "acme") -> tuple[str, ...]:
    names = (f"neighbour-{number}" for number in count())
    matching = (name for name in names if team_partition(name) == team_partition(first_team))
    return (first_team, *(next(matching) for _ in range(team_count - 1)))


def pick_teams_of_different_partitions(team_count: int) -> tuple[str, ...]:
    chosen: dict[int, str] = {}
    for name in _iterate_team_names():
        chosen.setdefault(team_partition(name), name)
        if len(chosen) == team_count:
            return tuple(chosen.values())
    raise AssertionError("there are no more names")


def _iterate_team_names() -> Iterator[str]:
    yield from (f"team-{number}" for number in count())


def make_create_commit(now: float, team: str = "acme", **changes: Any) -> Commit:
    """Makes a new job's first commit. `day`, `week`, `month` and `lifetime` are limits of its team's budget."""
    defaults: dict[str, Any] = {
        "decision_record": make_decision_record(team),
        "n": 1,
        "route": (ROUTE_ENTRY, OTHER_ROUTE_ENTRY),
        "id": new_job_id(team, now=lambda: now),
        "model": "gpt-image-2",
    }
    limits = BudgetLimits(**{kind.value: changes.pop(kind.value, None) for kind in WindowKind})
    return build_first_commit(NewJob(team=team, budget_limits=limits, **{**defaults, **changes}), now)


def make_exceeded(
    kind: WindowKind, amount: int, *, spent: int = 0, held: int = 0, owner: str = "acme"
) -> BudgetExceeded:
    """Makes the refusal of a job that exceeds a budget of its team, or of another owner."""
    return BudgetExceeded(limit=BudgetLimit(owner, get_window(kind, NOON), amount), spent=spent, held=held)


def make_decision_record(team: str) -> bytes:
    """Makes a record with the only field that a store reads."""
    return msgspec.json.encode({"query": {"team": team}})


def make_update_commit(job: Job, update: JobUpdate, now: float) -> Commit:
    commit = build_update_commit(job, update, now)
    assert isinstance(commit, Commit), f"the update changes nothing: {commit}"
    return commit


def make_attempt_started(job: Job, fence: int = 1, route_index: int = 0) -> AttemptStarted:
    return AttemptStarted(fence=fence, route_index=route_index, images=tuple(range(job.n)))


def make_ticket_received(attempt: int = 1) -> TicketReceived:
    return TicketReceived(attempt=attempt, ticket=f"ticket-{attempt}")


def make_images_stored(job: Job, attempt: int = 1, **fields: Any) -> ImagesStored:
    return ImagesStored(attempt=attempt, images=tuple(range(job.n)), **fields)


def make_client_key(
    name: str = "key-1", fingerprint: str = "body-1", ttl_seconds: float = 86_400.0
) -> IdempotencyRecord:
    """Makes the record of a client's idempotency key."""
    return IdempotencyRecord(key=name, fingerprint=fingerprint, ttl_seconds=ttl_seconds)


def make_body_key(
    retry_count: bool | int, name: str = "digest-1", caller_id: str | None = None, ttl_seconds: float = 86_400.0
) -> IdempotencyRecord:
    """Makes the record of a request body that came without a key. Each caller is new, unless the test names it.

    `retry_count`: which retry it is; -1 for a client that does not count.
    """
    caller_id = caller_id or f"one:{next(_caller_numbers)}"
    return IdempotencyRecord(
        key=name,
        fingerprint=name,
        ttl_seconds=ttl_seconds,
        is_body_key=True,
        retry_count=int(retry_count),
        caller_id=caller_id,
    )


async def gather_all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Awaits all calls at once."""
    return list(await asyncio.gather(*calls))


def parse_utc_time(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
