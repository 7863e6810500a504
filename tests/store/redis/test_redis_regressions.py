"""Regression tests of the Redis store: each stands for a bug that was found by adversarial tests."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.jobs.job_update_types import CancelRequested
from gateway.store.base import Applied, DuplicateRequest, StoreMisconfigured, StoreUnavailable
from gateway.store.redis import RedisStore
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.manual_clock import ManualClock
from tests.harness.wait import wait_until_async
from tests.store import job_factory, redis_servers
from tests.store.job_factory import NOON
from tests.store.raw_redis import RawRedis
from tests.store.redis.faulty_proxy import FaultyProxy
from tests.store.redis.redis_stores import count_discrepancies, open_store, run_async
from tests.store.redis_servers import RedisServer

pytestmark = pytest.mark.usefixtures("empty_redis")


def test_cancelled_caller_still_commits_after_script_flush(single_server: RedisServer) -> None:
    async def scenario() -> None:
        commits = [job_factory.make_create_commit(NOON, f"team-{number}") for number in range(20)]
        async with open_store(single_server.url) as store:
            for commit in commits:
                single_server.execute("SCRIPT", "FLUSH")
                caller = asyncio.create_task(store.commit(commit))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                caller.cancel()
        async with open_store(single_server.url) as store:
            assert [await store.load_job(commit.job.id) for commit in commits] == [commit.job for commit in commits]

    run_async(scenario())


def test_busy_partition_can_be_audited(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            for _ in range(200):
                assert await store.commit(job_factory.make_create_commit(NOON)) == Applied()
            partition = int(job_factory.make_create_commit(NOON).job.id[4:6])
            busy_task = asyncio.create_task(_create_jobs_forever(store))
            try:
                for _ in range(20):
                    assert (await store.audit(partition)).discrepancy_count == 0
            finally:
                busy_task.cancel()
                await asyncio.wait([busy_task])
            assert await count_discrepancies(store) == 0

    run_async(scenario())


def test_deleted_job_leaves_no_webhook(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            created = job_factory.make_create_commit(NOON, has_webhook=True)
            ended = job_factory.make_update_commit(created.job, CancelRequested(), NOON)
            assert [await store.commit(created), await store.commit(ended)] == [Applied(), Applied()]
            assert len(await store.claim_deliveries()) == 1
            await store.delete_job(created.job.id)

    run_async(scenario())
    raw_store = RawRedis(single_server.make_client())
    names = [name.decode() for name in raw_store.dump_everything()]
    raw_store.close()
    assert [name for name in names if name.endswith((":outbox", ":webhooks"))] == []


async def _create_jobs_forever(store: RedisStore) -> None:
    while True:
        await store.commit(job_factory.make_create_commit(NOON))


@pytest.mark.thorough
def test_concurrent_audits_repair_a_discrepancy_once(single_server: RedisServer) -> None:
    """Two audits find the same damage at once."""

    async def scenario() -> None:
        async with open_store(single_server.url) as first, open_store(single_server.url) as second:
            job = job_factory.make_create_commit(NOON).job
            await first.commit(job_factory.make_create_commit(NOON, id=job.id))
            partition = int(job.id[4:6])
            key = f"igw:{{{partition:02}}}:budget:acme:{job_factory.DAY}"
            for _ in range(20):
                single_server.execute("HINCRBY", key, "held", 777)
                await asyncio.gather(*(store.audit(partition) for store in (first, second, first, second)))
                await first.audit(partition)
                assert int(single_server.execute("HGET", key, "held")) == job_factory.CEILING

    run_async(scenario())


@pytest.mark.thorough
def test_many_settled_jobs_do_not_slow_down_the_start(tmp_path: Path) -> None:
    """After a restart only jobs that are listed nowhere are audited, and there are none."""

    async def settle_jobs(server: RedisServer) -> None:
        async with open_store(server.url) as store:
            for _ in range(20):
                await asyncio.gather(*(_create_settled_job(store) for _ in range(100)))

    async def scenario(server: RedisServer) -> None:
        started_at = time.monotonic()
        async with open_store(server.url) as store:
            assert time.monotonic() - started_at < 30
            assert await count_discrepancies(store) == 0
        # Each entry: number, time, duration in microseconds, command.
        assert all(duration < 500_000 for _, _, duration, *_ in server.execute("SLOWLOG", "GET", 10))

    with redis_servers.run_single_server(tmp_path, "--slowlog-log-slower-than", "100000") as server:
        run_async(settle_jobs(server))
        server.kill()
        server.start()
        run_async(scenario(server))


async def _create_settled_job(store: RedisStore) -> None:
    commit = job_factory.make_create_commit(NOON)
    await store.commit(commit)
    for update in (job_factory.make_attempt_started(commit.job), job_factory.make_images_stored(commit.job)):
        commit = job_factory.make_update_commit(commit.job, update, NOON)
        await store.commit(commit)


def test_server_misconfigured_at_runtime_gets_no_new_jobs(single_server: RedisServer) -> None:
    timing = StoreTiming(check_interval_seconds=0.05)

    async def scenario() -> None:
        async with open_store(single_server.url, timing=timing) as store:
            first = job_factory.make_create_commit(NOON, idempotency=job_factory.make_client_key())
            assert await store.commit(first) == Applied()
            single_server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            try:
                await wait_until_async(lambda: store.warnings, "the store has a warning")
                assert "noeviction" in store.warnings[0]
                with pytest.raises(StoreUnavailable, match="noeviction"):
                    await store.commit(job_factory.make_create_commit(NOON))
                assert await store.find_by_idempotency(
                    first.job.team, job_factory.make_client_key()
                ) == DuplicateRequest(first.job.id)
                assert (
                    await store.commit(
                        job_factory.make_update_commit(first.job, job_factory.make_attempt_started(first.job), NOON)
                    )
                    == Applied()
                )
            finally:
                single_server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
            await wait_until_async(lambda: not store.warnings, "the store has no warnings")
            assert await store.commit(job_factory.make_create_commit(NOON)) == Applied()

    run_async(scenario())


@pytest.mark.thorough
def test_many_callers_of_a_hanging_server_all_time_out(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url) as store:
            proxy.is_flowing.clear()
            started_at = time.monotonic()
            calls = [store.commit(job_factory.make_create_commit(NOON)) for _ in range(2_000)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(result, StoreUnavailable) for result in results)
            assert time.monotonic() - started_at < 60
            proxy.is_flowing.set()

    run_async(scenario())


def test_silent_subscription_is_renewed(single_server: RedisServer) -> None:
    """The job is changed by another connection of its owner."""
    timing = StoreTiming(idle_seconds=0.1)

    async def scenario() -> None:
        async with (
            FaultyProxy(single_server.port) as proxy,
            open_store(proxy.url, replica_id="owner", timing=timing) as store,
            open_store(single_server.url, replica_id="owner", timing=timing) as other,
        ):
            job = job_factory.make_create_commit(NOON).job
            assert await store.commit(job_factory.make_create_commit(NOON, id=job.id)) == Applied()
            proxy.silence_subscriptions()
            with store.watch(job.id) as watch:
                await watch.wait_for_change(0.05)
                changed = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), NOON)
                assert await other.commit(changed) == Applied()
                assert await watch.wait_for_change(5)

    run_async(scenario())


def test_closing_store_refuses_commits(single_server: RedisServer) -> None:
    async def scenario() -> None:
        store = await RedisStore(single_server.url, clock=ManualClock(job_factory.NOON)).open()
        busy = asyncio.create_task(_create_jobs_forever(store))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await store.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await busy
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.commit(job_factory.make_create_commit(NOON))

    run_async(scenario())


def test_store_that_failed_to_open_can_be_closed(single_server: RedisServer) -> None:
    async def scenario() -> None:
        single_server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        try:
            store = RedisStore(single_server.url)
            with pytest.raises(StoreMisconfigured):
                await store.open()
            await store.close()
        finally:
            single_server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")

    run_async(scenario())


@pytest.mark.thorough
def test_foreign_key_and_unknown_ledger_line_do_not_prevent_start(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            job = job_factory.make_create_commit(NOON).job
            assert await store.commit(job_factory.make_create_commit(NOON, id=job.id)) == Applied()
        single_server.execute("SET", "igw:{xx}:job:1", "a stranger's")
        single_server.execute("RPUSH", f"igw:{{{job.id[4:6]}}}:ledger:{job_factory.DAY}", '{"line":"unheard of"}')
        single_server.execute("DEL", "igw:runs")
        async with open_store(single_server.url) as store:
            assert await store.load_job(job.id) == job

    run_async(scenario())


def test_unencodable_argument_fails_only_its_own_caller(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            commits = [job_factory.make_create_commit(NOON) for _ in range(20)]
            calls = [
                *map(store.commit, commits),
                store.load_documents(commits[0].job.id, "half a letter: \ud800"),
                store.publish_signal("nothing", None),  # type: ignore[arg-type]
            ]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert results[:20] == [Applied()] * 20
            assert [type(result) for result in results[20:]] == [UnicodeEncodeError, TypeError]
            with pytest.raises(ValueError, match="must be finite"):
                await store.release_job(commits[0].job.id, 1, float("nan"))
            assert await store.renew_leases({commits[0].job.id: 1, "no job": 1}) == {"no job"}

    run_async(scenario())


def test_repaired_totals_keep_their_expiry(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            await _create_settled_job(store)
            partition = next(
                number for number in range(64) if single_server.execute("EXISTS", f"igw:{{{number:02}}}:owners")
            )
            prefix = f"igw:{{{partition:02}}}:"
            keys = [f"{prefix}totals:{job_factory.DAY}", f"{prefix}budget:acme:{job_factory.DAY}"]
            before = [single_server.execute("EXPIRETIME", key) for key in keys]
            single_server.execute("DEL", *keys)
            assert (await store.audit(partition)).discrepancy_count > 0
            assert [single_server.execute("EXPIRETIME", key) for key in keys] == before

    run_async(scenario())
