"""A store, whatever it is built on, with its clock and the way behind its back."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.jobs.commit import Commit
from gateway.jobs.facts import Happening
from gateway.jobs.job import Job
from gateway.store.base import Applied, Outcome, Store
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from tests.store import orders
from tests.store.raw import Raw
from tests.store.raw_redis import RawRedis
from tests.store.raw_sqlite import RawSqlite
from tests.store.servers import Server

LEASE = 15.0
KINDS = ("sqlite", "single", "clustered")
REPLICATED = ("single", "clustered")


class World:
    """What one test sees. Its store is open from the start; `another` opens a second one on the same data."""

    def __init__(self, kind: str, make: Callable[..., Store], raw: Raw) -> None:
        self.kind = kind
        self.raw = raw
        self.clock = orders.Clock()
        self._make = make
        self._runner = asyncio.Runner()
        self.store = make(owner="one", lease=LEASE, clock=self.clock)
        self.run(self.store.open())

    def run(self, story: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(story)

    def close(self) -> None:
        self.run(self.store.close())
        self._runner.close()
        self.raw.close()

    @property
    def now(self) -> float:
        return self.clock.now

    def passes(self, seconds: float) -> None:
        """Time goes by, for what forgets by itself, too."""
        self.clock.now += seconds
        self.raw.forget_what_is_over(seconds, self.clock.now)

    @asynccontextmanager
    async def another(self, owner: str = "two", **options: Any) -> AsyncIterator[Store]:
        store = self._make(owner=owner, lease=LEASE, clock=self.clock, **options)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    async def reopened(self, owner: str = "two", **options: Any) -> Store:
        """As after a restart of the process: the only way that a job changes hands where there is one process."""
        await self.store.close()
        return await self._opened(owner, **options)

    async def killed(self, owner: str = "two") -> Store:
        """A store that is closed hands nothing over; what else tells it from one that was killed is taken away."""
        await self.store.close()
        self.raw.forget_closing(self.store.owner)
        return await self._opened(owner)

    async def _opened(self, owner: str, **options: Any) -> Store:
        self.store = self._make(owner=owner, lease=LEASE, clock=self.clock, **options)
        return await self.store.open()

    def acceptance(self, team: str = "acme", **changes: Any) -> Commit:
        return orders.acceptance(self.now, team, **changes)

    async def accepted(self, team: str = "acme", **changes: Any) -> Job:
        return await self.done(self.acceptance(team, **changes))

    async def tried(self, team: str = "acme", **changes: Any) -> Outcome:
        return await self.store.commit(self.acceptance(team, **changes))

    async def done(self, commit: Commit) -> Job:
        assert await self.store.commit(commit) == Applied()
        return commit.job

    async def happens(self, job: Job, *happenings: Happening) -> Job:
        """One commit each."""
        for happening in happenings:
            job = await self.done(orders.changed(job, happening, self.now))
        return job

    async def bought(self, team: str = "acme", **changes: Any) -> Job:
        """A whole life: accepted, ordered, delivered, settled."""
        job = await self.accepted(team, **changes)
        return await self.happens(job, orders.opened(job), orders.ticket(), orders.delivered(job))

    async def unchanged_by(self, *commits: Commit) -> list[Outcome]:
        """How these are answered, after which nothing at all may be different."""
        before = self.raw.dump()
        outcomes = [await self.store.commit(commit) for commit in commits]
        assert self.raw.dump() == before
        return outcomes

    async def claimable(self) -> set[str]:
        """Whose time has come; they are claimed by that."""
        return {claimed.job.id for claimed in await self.store.claim()}


def sqlite_world(folder: Path) -> World:
    path = folder / "gateway.db"

    def make(**options: Any) -> Store:
        return SqliteStore(path, **options)

    return World("sqlite", make, RawSqlite(path))


def redis_world(server: Server) -> World:
    raw = RawRedis(server.client())
    raw.empty()

    def make(**options: Any) -> Store:
        return RedisStore(server.url, **options)

    return World("clustered" if server.clustered else "single", make, raw)
