"""A store of any kind, with its clock and direct access to its data."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs.commit import Commit
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import JobUpdate
from gateway.store.base import Applied, CommitOutcome, Store, StoreUnavailable
from gateway.store.partitions import PARTITIONS
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.manual_clock import ManualClock
from tests.harness.memory_store import MemoryState, MemoryStore
from tests.harness.wait import GUARD_SECONDS
from tests.store import job_factory
from tests.store.raw_memory import RawMemory
from tests.store.raw_redis import RawRedis
from tests.store.raw_sqlite import RawSqlite
from tests.store.raw_store import RawStore
from tests.store.redis_servers import RedisServer

LEASE_SECONDS = 15.0
REDIS_KINDS: tuple[Any, ...] = ("single", "clustered", pytest.param("valkey", marks=pytest.mark.thorough))
SHARED_STORE_KINDS = ("memory", *REDIS_KINDS)
STORE_KINDS = ("sqlite", *SHARED_STORE_KINDS)


class StoreHarness:
    """The store of one test, open from the start. `open_another` opens a second store with the same data."""

    def __init__(self, store_kind: str, make_store: Callable[..., Store], raw_store: RawStore) -> None:
        self.store_kind = store_kind
        self.raw_store = raw_store
        self.clock = ManualClock(job_factory.NOON)
        self._make_store = make_store
        self._runner = asyncio.Runner()
        try:
            self.run_async(self._open_first_store())
        except BaseException:
            self._runner.close()
            raw_store.close()
            raise

    def run_async(self, scenario: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(scenario)

    def close(self) -> None:
        self.run_async(self.store.close())
        self._runner.close()
        self.raw_store.close()

    @property
    def now(self) -> float:
        return self.clock.now

    def advance_time(self, seconds: float) -> None:
        """Advances the clock, also for keys that the server expires by itself."""
        self.clock.now += seconds
        self.raw_store.expire_keys(seconds, self.clock.now)

    @asynccontextmanager
    async def open_another(self, replica_id: str = "two", **options: Any) -> AsyncIterator[Store]:
        store = self._make_store(replica_id=replica_id, lease=LEASE_SECONDS, clock=self.clock, **options)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    async def reopen(self, replica_id: str = "two", **options: Any) -> Store:
        """Closes and opens the store, as a restart of the process does."""
        await self.store.close()
        return await self._open_store(replica_id, **options)

    async def reopen_after_kill(self, replica_id: str = "two") -> Store:
        """Reopens the store as after a kill."""
        await self.store.close()
        self.raw_store.undo_close(self.store.replica_id, self.now)
        return await self._open_store(replica_id)

    async def _open_first_store(self) -> None:
        """Opens the store, again and again: the server on a busy machine may accept connections too late."""
        give_up_at = time.monotonic() + GUARD_SECONDS
        while True:
            try:
                await self._open_store("one")
                return
            except StoreUnavailable:
                if time.monotonic() > give_up_at:
                    raise

    async def _open_store(self, replica_id: str, **options: Any) -> Store:
        self.store = self._make_store(replica_id=replica_id, lease=LEASE_SECONDS, clock=self.clock, **options)
        return await self.store.open()

    def make_create_commit(self, team: str = "acme", **changes: Any) -> Commit:
        return job_factory.make_create_commit(self.now, team, **changes)

    async def create_job(self, team: str = "acme", **changes: Any) -> Job:
        return await self.apply_commit(self.make_create_commit(team, **changes))

    async def try_create_job(self, team: str = "acme", **changes: Any) -> CommitOutcome:
        return await self.store.commit(self.make_create_commit(team, **changes))

    async def apply_commit(self, commit: Commit) -> Job:
        assert await self.store.commit(commit) == Applied()
        return commit.job

    async def apply_updates(self, job: Job, *updates: JobUpdate) -> Job:
        """Applies the updates, each with its own commit."""
        for update in updates:
            job = await self.apply_commit(job_factory.make_update_commit(job, update, self.now))
        return job

    async def create_settled_job(self, team: str = "acme", **changes: Any) -> Job:
        """Creates a job, orders its images, stores them, and so settles the job."""
        job = await self.create_job(team, **changes)
        return await self.apply_updates(
            job,
            job_factory.make_attempt_started(job),
            job_factory.make_ticket_received(),
            job_factory.make_images_stored(job),
        )

    async def commit_without_effect(self, *commits: Commit) -> list[CommitOutcome]:
        """Commits, asserts that the stored data is unchanged, and returns the outcomes."""
        before = self.raw_store.dump_everything()
        outcomes = [await self.store.commit(commit) for commit in commits]
        assert self.raw_store.dump_everything() == before
        return outcomes

    async def claim_job_ids(self) -> set[str]:
        """Claims the due jobs and returns their ids."""
        return {claimed.job.id for claimed in await self.store.claim_jobs()}


def make_sqlite_harness(folder: Path) -> StoreHarness:
    path = folder / "gateway.db"

    def make_store(**options: Any) -> Store:
        return SqliteStore(path, **options)

    return StoreHarness("sqlite", make_store, RawSqlite(path))


def make_memory_harness(state: MemoryState) -> StoreHarness:
    def make_store(**options: Any) -> Store:
        return MemoryStore(state, **options)

    return StoreHarness("memory", make_store, RawMemory(state))


def make_redis_harness(server: RedisServer, store_kind: str = "single") -> StoreHarness:
    raw_store = RawRedis(server.make_client())
    raw_store.delete_everything()
    # A command without an answer for so long is sent again. A repeated release, for example, is refused.
    url = f"{server.create_user()}?socket_timeout={GUARD_SECONDS}"
    timing = StoreTiming(restart_grace_seconds=0.0, command_timeout_seconds=GUARD_SECONDS)

    def make_store(**options: Any) -> Store:
        return RedisStore(url, **{"timing": timing, **options})

    return StoreHarness(store_kind, make_store, raw_store)


def open_harness(store_kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[StoreHarness]:
    """Yields a harness with an empty store of this kind, for a fixture."""
    harness = _make_harness(store_kind, request, folder)
    try:
        yield harness
    finally:
        harness.close()


def _make_harness(store_kind: str, request: pytest.FixtureRequest, folder: Path) -> StoreHarness:
    if store_kind == "sqlite":
        return make_sqlite_harness(folder)
    if store_kind == "memory":
        return make_memory_harness(MemoryState(PARTITIONS))
    return make_redis_harness(request.getfixturevalue(f"{store_kind}_server"), store_kind)
