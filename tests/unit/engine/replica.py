"""An engine with a real store and no sellers: its jobs are unconfirmed, so that it waits for their callers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import Struct

from gateway.engine.engine import Engine
from gateway.jobs.job import Job
from gateway.store.base import Applied
from gateway.store.sqlite import SqliteStore
from gateway.store.watching import Watches
from gateway.supervision import Supervisor
from tests.store import orders

# A few of them pass before an unconfirmed job is withdrawn.
LEASE = 5.0


class Replica(Struct, frozen=True):
    engine: Engine
    store: SqliteStore
    clock: orders.Clock
    supervisor: Supervisor

    async def accepted(self) -> Job:
        """By the store alone: nobody works on it."""
        commit = orders.acceptance(self.clock.now)
        assert await self.store.commit(commit) == Applied()
        return commit.job

    async def claimable(self) -> set[str]:
        found: set[str] = set()
        while claimed := await self.store.claim():
            found |= {one.job.id for one in claimed}
        return found


@asynccontextmanager
async def replica(folder: Path) -> AsyncIterator[Replica]:
    clock, told = orders.Clock(), list[Any]()
    store = await SqliteStore(folder / "gateway.db", lease=LEASE, clock=clock).open()
    hands: Any = SimpleNamespace(
        store=store,
        waiting=Watches(),
        emit=told.append,
        now=clock,
        clock=asyncio.get_running_loop().time,
        callbacks=None,
    )
    engine = Engine(hands, LEASE)
    try:
        yield Replica(engine, store, clock, Supervisor())
    finally:
        await engine.drain(0.0)
        await store.close()
