"""What once went wrong when somebody tried hard: each stands here so that it does not come back."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.store.base import Applied, Known, StoreUnavailable, StoreUnfit
from gateway.store.redis import RedisStore, guard, hearing
from tests.store import orders, servers
from tests.store.orders import NOON
from tests.store.redis.meddler import Meddler
from tests.store.redis.stories import opened, run, violations
from tests.store.servers import Server

pytestmark = pytest.mark.usefixtures("emptied")


def test_a_cancelled_caller_has_committed_also_where_the_script_was_forgotten(single_server: Server) -> None:
    async def story() -> None:
        commits = [orders.acceptance(NOON, f"team-{number}") for number in range(20)]
        async with opened(single_server.url) as store:
            for commit in commits:
                single_server.cli("SCRIPT", "FLUSH")
                caller = asyncio.create_task(store.commit(commit))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                caller.cancel()
        async with opened(single_server.url) as store:
            assert [await store.load(commit.job.id) for commit in commits] == [commit.job for commit in commits]

    run(story())


def test_a_partition_that_is_busy_is_audited_all_the_same(single_server: Server) -> None:
    async def story() -> None:
        async with opened(single_server.url) as store:
            for _ in range(200):
                assert await store.commit(orders.acceptance(NOON)) == Applied()
            partition = int(orders.acceptance(NOON).job.id[4:6])
            more = asyncio.create_task(_accepting(store))
            try:
                for _ in range(20):
                    assert (await store.audit(partition)).violations == 0
            finally:
                more.cancel()
                await asyncio.wait([more])
            assert await violations(store) == 0

    run(story())


async def _accepting(store: RedisStore) -> None:
    while True:
        await store.commit(orders.acceptance(NOON))


def test_auditors_that_meet_mend_once(single_server: Server) -> None:
    """The same damage, seen by two of them at once."""

    async def story() -> None:
        async with opened(single_server.url) as one, opened(single_server.url) as two:
            job = orders.acceptance(NOON).job
            await one.commit(orders.acceptance(NOON, id=job.id))
            partition = int(job.id[4:6])
            key = f"igw:{{{partition:02}}}:budget:acme:{orders.DAY}"
            for _ in range(20):
                single_server.cli("HINCRBY", key, "held", 777)
                await asyncio.gather(*(store.audit(partition) for store in (one, two, one, two)))
                await one.audit(partition)
                assert int(single_server.cli("HGET", key, "held")) == orders.CEILING

    run(story())


def test_many_settled_jobs_do_not_keep_a_replica_from_starting(tmp_path: Path) -> None:
    """After a restart only what nothing names is looked at, and that is nothing."""

    async def settled(server: Server) -> None:
        async with opened(server.url) as store:
            for _ in range(20):
                await asyncio.gather(*(_life(store) for _ in range(100)))

    async def story(server: Server) -> None:
        began = time.monotonic()
        async with opened(server.url) as store:
            assert time.monotonic() - began < 5
            assert await violations(store) == 0
        slowest = server.cli("SLOWLOG", "GET", 1)
        assert not slowest or slowest[0]["duration"] < 500_000

    with servers.single(tmp_path, "--slowlog-log-slower-than", "100000") as server:
        run(settled(server))
        server.kill()
        server.start()
        run(story(server))


async def _life(store: RedisStore) -> None:
    commit = orders.acceptance(NOON)
    await store.commit(commit)
    for happening in (orders.opened(commit.job), orders.delivered(commit.job)):
        commit = orders.changed(commit.job, happening, NOON)
        await store.commit(commit)


def test_a_server_that_becomes_unfit_while_we_run_gets_no_new_jobs(
    single_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "GUARD_SECONDS", 0.05)

    async def story() -> None:
        async with opened(single_server.url) as store:
            first = orders.acceptance(NOON, idempotency=orders.key())
            assert await store.commit(first) == Applied()
            single_server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            try:
                await _until(lambda: bool(store.warnings))
                assert "noeviction" in store.warnings[0]
                with pytest.raises(StoreUnavailable, match="noeviction"):
                    await store.commit(orders.acceptance(NOON))
                assert await store.recall(first.job.team, orders.key()) == Known(first.job.id)
                assert await store.commit(orders.changed(first.job, orders.opened(first.job), NOON)) == Applied()
            finally:
                single_server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
            await _until(lambda: not store.warnings)
            assert await store.commit(orders.acceptance(NOON)) == Applied()

    run(story())


async def _until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < ends
        await asyncio.sleep(0.02)


def test_nobody_waits_long_for_a_server_that_hangs_however_many_wait(single_server: Server) -> None:
    async def story() -> None:
        async with Meddler(single_server.port) as meddler, opened(meddler.url) as store:
            meddler.flowing.clear()
            began = time.monotonic()
            waiting = [store.commit(orders.acceptance(NOON)) for _ in range(2_000)]
            ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(end, StoreUnavailable) for end in ended)
            assert time.monotonic() - began < 8
            meddler.flowing.set()

    run(story())


def test_a_subscription_that_fell_into_a_hole_is_made_anew(
    single_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "QUIET_SECONDS", 0.1)

    async def story() -> None:
        async with (
            Meddler(single_server.port) as meddler,
            opened(meddler.url) as store,
            opened(single_server.url) as other,
        ):
            job = orders.acceptance(NOON).job
            assert await store.commit(orders.acceptance(NOON, id=job.id)) == Applied()
            meddler.swallow_subscriptions()
            with store.watch(job.id) as watch:
                await watch.changed(0.05)
                changed = orders.changed(job, orders.opened(job), NOON)
                assert await other.commit(changed) == Applied()
                assert await watch.changed(5)

    run(story())


def test_a_store_that_closes_takes_nothing_more(single_server: Server) -> None:
    async def story() -> None:
        store = await RedisStore(single_server.url, clock=orders.Clock()).open()
        busy = asyncio.create_task(_accepting(store))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            await store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await busy
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.commit(orders.acceptance(NOON))

    run(story())


def test_a_store_that_could_not_be_opened_can_be_closed(single_server: Server) -> None:
    async def story() -> None:
        single_server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            store = RedisStore(single_server.url)
            with pytest.raises(StoreUnfit):
                await store.open()
            await store.close()
        finally:
            single_server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")

    run(story())


def test_a_strangers_key_and_a_newer_replicas_entry_keep_nobody_from_starting(single_server: Server) -> None:
    async def story() -> None:
        async with opened(single_server.url) as store:
            job = orders.acceptance(NOON).job
            assert await store.commit(orders.acceptance(NOON, id=job.id)) == Applied()
        single_server.cli("SET", "igw:{xx}:job:1", "a stranger's")
        single_server.cli("RPUSH", f"igw:{{{job.id[4:6]}}}:ledger:{orders.DAY}", '{"line":"unheard of"}')
        single_server.cli("DEL", "igw:runs")
        async with opened(single_server.url) as store:
            assert await store.load(job.id) == job

    run(story())


def test_what_cannot_be_written_fails_for_its_own_caller_alone(single_server: Server) -> None:
    async def story() -> None:
        async with opened(single_server.url) as store:
            commits = [orders.acceptance(NOON) for _ in range(20)]
            asked = [
                *map(store.commit, commits),
                store.documents(commits[0].job.id, "half a letter: \ud800"),
                store.share("nothing", None),  # type: ignore[arg-type]
            ]
            ended = await asyncio.gather(*asked, return_exceptions=True)
            assert ended[:20] == [Applied()] * 20
            assert [type(end) for end in ended[20:]] == [UnicodeEncodeError, TypeError]
            with pytest.raises(ValueError, match="put off"):
                await store.snooze(commits[0].job.id, 1, float("nan"))
            assert await store.beat({commits[0].job.id: 1, "no job": 1}) == {"no job"}

    run(story())


def test_what_the_auditor_makes_anew_is_forgotten_in_its_time(single_server: Server) -> None:
    async def story() -> None:
        async with opened(single_server.url) as store:
            await _life(store)
            partition = next(name for name in range(64) if single_server.cli("EXISTS", f"igw:{{{name:02}}}:teams"))
            prefix = f"igw:{{{partition:02}}}:"
            keys = [f"{prefix}totals:{orders.DAY}", f"{prefix}budget:acme:{orders.DAY}"]
            before = [single_server.cli("EXPIRETIME", key) for key in keys]
            single_server.cli("DEL", *keys)
            assert (await store.audit(partition)).violations > 0
            assert [single_server.cli("EXPIRETIME", key) for key in keys] == before

    run(story())
