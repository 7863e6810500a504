"""An engine with a real store and no sellers: its jobs are unconfirmed, so it waits for their clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import Struct

from gateway.engine.engine import Engine
from gateway.engine.open_job_counter import OpenJobCounter
from gateway.jobs.job import Job
from gateway.store.base import Applied
from gateway.store.job_watch import JobWatchers
from gateway.store.sqlite import SqliteStore
from gateway.task_supervisor import TaskSupervisor
from gateway.timeouts_and_intervals import Timing
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory

# An unconfirmed job is withdrawn after a few of these.
LEASE_SECONDS = 5.0


class EngineReplica(Struct, frozen=True):
    engine: Engine
    store: SqliteStore
    clock: ManualClock
    supervisor: TaskSupervisor

    async def create_job_in_store(self) -> Job:
        """Creates a job in the store only, without a worker."""
        commit = job_factory.make_create_commit(self.clock.now)
        assert await self.store.commit(commit) == Applied()
        return commit.job

    async def claim_all_jobs(self) -> set[str]:
        job_ids: set[str] = set()
        while claimed := await self.store.claim_jobs():
            job_ids |= {claimed_job.job.id for claimed_job in claimed}
        return job_ids


@asynccontextmanager
async def run_replica(folder: Path, timing: Timing = Timing()) -> AsyncIterator[EngineReplica]:
    clock, events = ManualClock(job_factory.NOON), list[Any]()
    store = await SqliteStore(folder / "gateway.db", lease=LEASE_SECONDS, clock=clock).open()
    context: Any = SimpleNamespace(
        store=store,
        job_watchers=JobWatchers(),
        open_jobs=OpenJobCounter(),
        emit=events.append,
        wall_clock=clock,
        monotonic=asyncio.get_running_loop().time,
        callback_urls=None,
        draw_random=lambda: 0.5,
        timing=timing,
    )
    engine = Engine(context, LEASE_SECONDS)
    try:
        yield EngineReplica(engine, store, clock, TaskSupervisor())
    finally:
        await engine.drain(0.0)
        await store.close()
