"""What a commit costs: commits per second, and µs of this process's CPU each, with 1, 16 and 64 jobs at once.

`make bench` runs it. Redis is a real server of its own with appendfsync always; SQLite writes with synchronous=FULL.
Each job is accepted, opened, ticketed, delivered: four commits, one after the other, as an owner makes them. Building
the commit (`apply`) is measured with it. Rates are of wall time, in one run on one machine.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import uvloop

from gateway.catalogue import Cell
from gateway.jobs import facts
from gateway.jobs.accepting import Acceptance, accept
from gateway.jobs.applying import Ignored
from gateway.jobs.commit import Commit, Limits, apply
from gateway.jobs.job import Job, Place, Trace
from gateway.store.base import Applied, Store
from gateway.store.partitions import new_job_id
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from providers.orders import Operation, Quality
from providers.sizes import Resolution
from tests.store import servers

SECONDS = 4.0
CONCURRENT = (1, 16, 64)
AIMS = {("redis", 64): 3_000, ("sqlite", 64): 1_500}
CELL = Cell(Operation.GENERATE, Resolution.ONE_K, Quality.HIGH)
ROUTE = (
    Place("runapi", "runapi", "gpt-image-2", CELL, 1, 50_000, 60_000, 420.0, True, Trace.REPLAY),
    Place("runflow-runs", "runflow_runs", "openai/gpt-image-2", CELL, 4, 133_000, 211_000, 420.0, True, Trace.SEARCH),
)
HAPPENINGS: tuple[facts.Happening, ...] = (
    facts.AttemptOpened(fence=1, place=0, images=(0,)),
    facts.TicketLearned(attempt=1, ticket="0b6c1f3a-8d0e-4f5e-9f66-0d6e7c0b9a11"),
    facts.PicturesDelivered(attempt=1, images=(0,), cost=50_000),
)


async def one_job(store: Store, team: str) -> int:
    now = time.time()
    acceptance = Acceptance(
        id=new_job_id(team),
        team=team,
        model="gpt-image-2",
        n=1,
        route=ROUTE,
        limits=Limits(day=10**12, month=10**12),
        documents={"request": b"a prompt of ordinary length " * 20},
    )
    commit = accept(acceptance, now)
    await _done(store, commit)
    job: Job = commit.job
    for happening in HAPPENINGS:
        commit = await _done(store, apply(job, happening, time.time()))
        job = commit.job
    return 1 + len(HAPPENINGS)


async def _done(store: Store, commit: Commit | Ignored) -> Commit:
    """A benchmark of what is refused would measure nothing."""
    outcome = commit if isinstance(commit, Ignored) else await store.commit(commit)
    if isinstance(commit, Ignored) or not isinstance(outcome, Applied):
        raise SystemExit(f"not done: {outcome}")
    return commit


async def measure(store: Store, concurrent: int) -> tuple[float, float]:
    """Commits per second, and µs of CPU each."""
    ends = time.perf_counter() + SECONDS

    async def worker(number: int) -> int:
        commits = 0
        while time.perf_counter() < ends:
            commits += await one_job(store, f"team-{number}")
        return commits

    began, cpu = time.perf_counter(), time.process_time()
    commits = sum(await asyncio.gather(*(worker(number) for number in range(concurrent))))
    return commits / (time.perf_counter() - began), (time.process_time() - cpu) / commits * 1e6


@asynccontextmanager
async def sqlite() -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store = await SqliteStore(Path(folder) / "jobs.db").open()
        yield store
        await store.close()


@asynccontextmanager
async def redis() -> AsyncIterator[Store]:
    with tempfile.TemporaryDirectory(dir=".") as folder, servers.single(Path(folder)) as server:
        store = await RedisStore(server.url).open()
        yield store
        await store.close()


async def main(chosen: list[str]) -> None:
    stores: dict[str, Callable[[], AbstractAsyncContextManager[Store]]] = {"redis": redis, "sqlite": sqlite}
    print(f"{'store':8}{'jobs at once':>14}{'commits/s':>12}{'µs CPU each':>14}{'aim':>9}")
    for name in chosen or stores:
        for concurrent in CONCURRENT:
            async with stores[name]() as store:
                rate, cost = await measure(store, concurrent)
            aim = AIMS.get((name, concurrent))
            print(f"{name:8}{concurrent:>14}{rate:>12,.0f}{cost:>14.0f}{f'≥{aim:,}' if aim else '':>9}")


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:]))
