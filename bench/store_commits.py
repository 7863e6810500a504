"""Measures commits per second, and the CPU time of this process per commit in µs, with 1, 16 and 64 jobs at once.

`make bench` runs it. Redis is a real server with appendfsync always; SQLite writes with synchronous=FULL. Each job is
created, gets an attempt and a ticket, and its images are stored: four commits in order, as its owner makes them. The
time to build a commit is included. Rates are per second of wall time, in one run on one machine.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import uvloop

from gateway.jobs import job_update_types
from gateway.jobs.budgets import BudgetLimits, KeyBudget
from gateway.jobs.commit import Commit, build_update_commit
from gateway.jobs.first_commit import NewJob, build_first_commit
from gateway.jobs.job import Job, RecoveryMethod, RouteEntry
from gateway.jobs.transitions import Ignored
from gateway.store.base import Applied, Store
from gateway.store.partitions import new_job_id
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from providers.orders import Cell, Operation
from tests.store import redis_servers

SECONDS = 4.0
CONCURRENCY_LEVELS = (1, 16, 64)
MIN_COMMITS_PER_SECOND = {("redis", 64): 3_000, ("sqlite", 64): 1_500}
KEY_ID = "k3v7q2m5xa"
CELL = Cell(Operation.GENERATE, "1k", "high")
ROUTE = (
    RouteEntry("runapi", "runapi", "gpt-image-2", CELL, 1, 50_000, 60_000, 420.0, True, RecoveryMethod.REPLAY),
    RouteEntry(
        "runflow-runs",
        "runflow_runs",
        "openai/gpt-image-2",
        CELL,
        4,
        133_000,
        211_000,
        420.0,
        True,
        RecoveryMethod.SEARCH,
    ),
)
UPDATES: tuple[job_update_types.JobUpdate, ...] = (
    job_update_types.AttemptStarted(fence=1, route_index=0, images=(0,)),
    job_update_types.TicketReceived(attempt=1, ticket="0b6c1f3a-8d0e-4f5e-9f66-0d6e7c0b9a11"),
    job_update_types.ImagesStored(attempt=1, images=(0,), cost=50_000),
)


async def run_job(store: Store, team: str) -> int:
    now = time.time()
    new_job = NewJob(
        id=new_job_id(team),
        team=team,
        model="gpt-image-2",
        n=1,
        route=ROUTE,
        budget_limits=BudgetLimits(day=10**12, month=10**12),
        key_id=KEY_ID,
        key_budget=KeyBudget(KEY_ID, BudgetLimits()),
        documents={"request": b"a prompt of ordinary length " * 20},
    )
    commit = build_first_commit(new_job, now)
    await _commit_or_exit(store, commit)
    job: Job = commit.job
    for update in UPDATES:
        commit = await _commit_or_exit(store, build_update_commit(job, update, time.time()))
        job = commit.job
    return 1 + len(UPDATES)


async def _commit_or_exit(store: Store, commit: Commit | Ignored) -> Commit:
    """Commits, and exits if the store refuses: a benchmark of refusals would be useless."""
    outcome = commit if isinstance(commit, Ignored) else await store.commit(commit)
    if isinstance(commit, Ignored) or not isinstance(outcome, Applied):
        raise SystemExit(f"The store refused a commit: {outcome}")
    return commit


async def measure_commits(store: Store, concurrent: int) -> tuple[float, float]:
    """Returns commits per second, and the CPU time per commit in µs."""
    ends_at = time.perf_counter() + SECONDS

    async def worker(number: int) -> int:
        commits = 0
        while time.perf_counter() < ends_at:
            commits += await run_job(store, f"team-{number}")
        return commits

    started_at, cpu_started = time.perf_counter(), time.process_time()
    commits = sum(await asyncio.gather(*(worker(number) for number in range(concurrent))))
    return commits / (time.perf_counter() - started_at), (time.process_time() - cpu_started) / commits * 1e6


@asynccontextmanager
async def open_sqlite() -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store = await SqliteStore(Path(folder) / "jobs.db").open()
        yield store
        await store.close()


@asynccontextmanager
async def open_redis() -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory(dir=".") as folder, redis_servers.run_single_server(Path(folder)) as server:
        store = await RedisStore(server.url).open()
        yield store
        await store.close()


async def main(names: list[str]) -> None:
    stores: dict[str, Callable[[], AbstractAsyncContextManager[Store]]] = {"redis": open_redis, "sqlite": open_sqlite}
    print(f"{'store':8}{'jobs at once':>14}{'commits/s':>12}{'µs CPU each':>14}{'goal':>9}")
    for name in names or stores:
        for concurrent in CONCURRENCY_LEVELS:
            async with stores[name]() as store:
                rate, cost = await measure_commits(store, concurrent)
            minimum = MIN_COMMITS_PER_SECOND.get((name, concurrent))
            print(f"{name:8}{concurrent:>14}{rate:>12,.0f}{cost:>14.0f}{f'≥{minimum:,}' if minimum else '':>9}")


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
