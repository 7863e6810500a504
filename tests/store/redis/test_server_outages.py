"""Redis refuses commands or is unreachable for a while: nothing is applied partly, and work continues afterwards."""

import asyncio
import time
from pathlib import Path

import pytest
import redis
from msgspec.structs import replace

from gateway.jobs.commit import Commit
from gateway.store.api_keys import ApiKey, ApiKeyChange, Scope
from gateway.store.base import Applied, DuplicateRequest, StoreFull, StoreUnavailable
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.wait import wait_for_value, wait_until_async
from tests.store import job_factory, redis_servers
from tests.store.job_factory import NOON
from tests.store.redis.faulty_proxy import FaultyProxy, make_error_rule
from tests.store.redis.redis_stores import count_discrepancies, load_day_balance, open_store, run_async
from tests.store.redis_servers import RedisServer

TRANSIENT_ERRORS = (
    "LOADING Redis is loading the dataset in memory",
    "READONLY You can't write against a read only replica.",
    "BUSY Redis is busy running a script.",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
)
LASTING_ERRORS = ("NOAUTH Authentication required.", "NOPERM this user has no permissions", "ERR something else")


@pytest.mark.one_in(4)
@pytest.mark.parametrize("error", TRANSIENT_ERRORS, ids=lambda error: error.split()[0])
def test_transient_server_error_is_retried(empty_redis: None, single_server: RedisServer, error: str) -> None:
    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url) as store:
            proxy.reply_rule = make_error_rule(error, times=3)
            commit = job_factory.make_create_commit(NOON)
            assert await store.commit(commit) == Applied()
            assert await store.load_job(commit.job.id) == commit.job

    run_async(scenario())


@pytest.mark.one_in(4)
@pytest.mark.parametrize("error", [*TRANSIENT_ERRORS, *LASTING_ERRORS], ids=lambda error: error.split()[0])
def test_lasting_server_error_is_raised_and_nothing_is_committed(
    empty_redis: None, single_server: RedisServer, error: str
) -> None:
    timing = StoreTiming(command_timeout_seconds=0.3)

    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url, timing=timing) as store:
            proxy.reply_rule = make_error_rule(error, times=10_000)
            commit = job_factory.make_create_commit(NOON)
            with pytest.raises(StoreUnavailable):
                await store.commit(commit)
            proxy.reply_rule = None
            assert await store.load_job(commit.job.id) is None
            assert await store.commit(commit) == Applied()

    run_async(scenario())


def test_commit_waits_until_read_only_server_is_promoted(empty_redis: None, single_server: RedisServer) -> None:
    """READONLY errors of a real server that becomes a replica and is promoted again."""

    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            commit = await asyncio.to_thread(_make_read_only, single_server)
            writing = asyncio.create_task(store.commit(commit))
            await asyncio.sleep(0.3)
            assert not writing.done()
            await asyncio.to_thread(single_server.execute, "REPLICAOF", "NO", "ONE")
            assert await writing == Applied()

    run_async(scenario())


def _make_read_only(server: RedisServer) -> Commit:
    server.execute("REPLICAOF", "127.0.0.1", "1")
    return job_factory.make_create_commit(NOON)


def test_full_memory_refuses_new_jobs_and_still_records_updates(empty_redis: None, single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            first = job_factory.make_create_commit(NOON, idempotency=job_factory.make_client_key())
            assert await store.commit(first) == Applied()
            held = await load_day_balance(store)
            single_server.execute("CONFIG", "SET", "maxmemory", "1mb")
            try:
                refused = job_factory.make_create_commit(NOON)
                with pytest.raises(StoreFull, match="maxmemory"):
                    await store.commit(refused)
                assert await load_day_balance(store) == held
                assert await store.find_by_idempotency(
                    first.job.team, job_factory.make_client_key()
                ) == DuplicateRequest(first.job.id)
                job = first.job
                for update in (
                    job_factory.make_attempt_started(job),
                    job_factory.make_ticket_received(),
                    job_factory.make_images_stored(job),
                ):
                    commit = job_factory.make_update_commit(job, update, NOON)
                    assert await store.commit(commit) == Applied()
                    job = commit.job
                assert await store.load_job(job.id) == job
                assert job.is_settled
                assert (await load_day_balance(store)).spent == job_factory.PRICE
            finally:
                single_server.execute("CONFIG", "SET", "maxmemory", "0")
            assert await store.load_job(refused.job.id) is None
            assert await store.commit(refused) == Applied()
            assert await count_discrepancies(store) == 0

    run_async(scenario())


def test_lease_renewal_fails_if_no_server_is_reachable(empty_redis: None, single_server: RedisServer) -> None:
    timing = StoreTiming(command_timeout_seconds=0.3)

    async def scenario() -> None:
        async with open_store(single_server.url, timing=timing) as store:
            teams = job_factory.pick_teams_of_different_partitions(3)
            leases = {commit.job.id: 1 for commit in (job_factory.make_create_commit(NOON, team) for team in teams)}
            single_server.stop()
            try:
                with pytest.raises(StoreUnavailable):
                    await store.renew_leases(leases)
                assert await store.renew_leases({}) == frozenset(), "the test renewed no lease"
            finally:
                single_server.start()

    run_async(scenario())


def test_flushed_scripts_are_sent_again(empty_redis: None, single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            for _ in range(3):
                single_server.execute("SCRIPT", "FLUSH")
                commits = [job_factory.make_create_commit(NOON, f"team-{number}") for number in range(20)]
                assert set(await asyncio.gather(*map(store.commit, commits))) == {Applied()}
            single_server.execute("SCRIPT", "FLUSH")
            assert len((await store.list_jobs("team-0")).jobs) == 3
            assert await count_discrepancies(store) == 0

    run_async(scenario())


def test_commits_and_watches_survive_a_server_restart(tmp_path: Path) -> None:
    """The server is killed during commits. Acknowledged commits are stored, and every caller gets an outcome."""

    async def scenario(server: RedisServer) -> None:
        async with open_store(server.url) as store, open_store(server.url, replica_id="other") as other:
            earlier = job_factory.make_create_commit(NOON)
            assert await store.commit(earlier) == Applied()
            with other.watch(earlier.job.id) as watch:
                await asyncio.to_thread(server.kill)
                commits = [job_factory.make_create_commit(NOON, f"team-{number}") for number in range(30)]
                writing = [asyncio.create_task(store.commit(commit)) for commit in commits]
                await asyncio.sleep(0.5)
                await asyncio.to_thread(server.start)
                assert set(await asyncio.gather(*writing)) == {Applied()}
                changed = job_factory.make_update_commit(
                    earlier.job, job_factory.make_attempt_started(earlier.job), NOON
                )
                assert await store.commit(changed) == Applied()
                assert await watch.wait_for_change(30)
            assert await other.load_job(earlier.job.id) == changed.job
            assert all([await other.load_job(commit.job.id) == commit.job for commit in commits])
            assert await count_discrepancies(store) == 0

    with redis_servers.run_single_server(tmp_path) as server:
        run_async(scenario(server))


def test_commit_fails_while_server_is_down_and_succeeds_after_restart(tmp_path: Path) -> None:
    timing = StoreTiming(command_timeout_seconds=0.5)

    async def scenario(server: RedisServer) -> None:
        async with open_store(server.url, timing=timing) as store:
            commit = job_factory.make_create_commit(NOON)
            await asyncio.to_thread(server.kill)
            started_at = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.commit(commit)
            assert time.monotonic() - started_at < 30
            with pytest.raises(StoreUnavailable):
                await store.load_job(commit.job.id)
            await asyncio.to_thread(server.start)
            assert await store.commit(commit) == Applied()

    with redis_servers.run_single_server(tmp_path) as server:
        run_async(scenario(server))


@pytest.mark.thorough
def test_commit_to_a_hanging_server_times_out(empty_redis: None, single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url) as store:
            proxy.is_flowing.clear()
            commit = job_factory.make_create_commit(NOON)
            started_at = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.commit(commit)
            assert time.monotonic() - started_at < 45
            proxy.is_flowing.set()
            assert await store.commit(commit) == Applied()

    run_async(scenario())


@pytest.mark.thorough
def test_commit_waits_while_the_server_loads_its_data(tmp_path: Path) -> None:
    """LOADING errors of a real server that reads its data slowly."""

    async def scenario(server: RedisServer) -> None:
        async with open_store(server.url) as store:
            commits = [job_factory.make_create_commit(NOON, f"team-{number}") for number in range(100)]
            assert set(await asyncio.gather(*map(store.commit, commits))) == {Applied()}
            await asyncio.to_thread(_rewrite_aof, server)
            await asyncio.to_thread(server.kill)
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await asyncio.to_thread(_wait_for_loading, server)
            count = _count_loading_errors(server)
            later = asyncio.create_task(store.commit(job_factory.make_create_commit(NOON)))
            await wait_until_async(lambda: _count_loading_errors(server) > count, "Redis refuses the commit")
            server.execute("CONFIG", "SET", "key-load-delay", "0")
            assert await later == Applied()
            await starting
            assert [await store.load_job(commit.job.id) for commit in commits] == [commit.job for commit in commits]

    # Loading would take many seconds if the delay did not end.
    slow = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    with redis_servers.run_single_server(tmp_path, *slow) as server:
        run_async(scenario(server))


def _rewrite_aof(server: RedisServer) -> None:
    """Rewrites the append-only file: only its compact form can be read slowly on demand."""
    server.execute("BGREWRITEAOF")
    server.wait_for_aof_rewrite()


def _wait_for_loading(server: RedisServer) -> None:
    def get_loading() -> object:
        try:
            return server.execute("INFO", "persistence")["loading"]
        except redis.ConnectionError as error:
            return error

    wait_for_value(get_loading, lambda loading: loading == 1, "the server loads its data")


def _count_loading_errors(server: RedisServer) -> int:
    error_stats = server.execute("INFO", "errorstats")
    return int(error_stats["errorstat_LOADING"]["count"]) if "errorstat_LOADING" in error_stats else 0


def test_full_memory_still_lets_admins_revoke_keys(empty_redis: None, single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            single_server.execute("CONFIG", "SET", "maxmemory", "1mb")
            try:
                key = ApiKey(id="a", name="", team="acme", scopes=(Scope.READ,), digests=("d",), created_at=NOON)
                for expected, version, changed in (("", "v1", key), ("v1", "v2", replace(key, revoked_at=NOON))):
                    change = ApiKeyChange(expected_version=expected, version=version, keys=(changed,))
                    assert await store.api_keys.change_table(change)
                await store.api_keys.record_uses({"a": NOON})
                table = await store.api_keys.load_table()
                assert table is not None
                assert [stored.revoked_at for stored in table.keys] == [NOON]
            finally:
                single_server.execute("CONFIG", "SET", "maxmemory", "0")

    run_async(scenario())


def test_subscription_continues_while_redis_cannot_write_to_its_disk(tmp_path: Path) -> None:
    """Then Redis refuses pings, too. A refusal shows that the connection works."""
    options = ("--save", "3600", "1", "--enable-protected-configs", "yes")
    with redis_servers.run_single_server(tmp_path, *options) as server:

        def count_refused_pings() -> int:
            return int(server.execute("INFO", "commandstats")["cmdstat_ping"]["rejected_calls"])

        async def scenario() -> None:
            async with open_store(server.url, timing=StoreTiming(idle_seconds=0.05)) as store:
                server.wait_for_aof_rewrite()
                # No file can be created there.
                server.execute("CONFIG", "SET", "dir", "/proc/self/task")
                server.execute("BGSAVE")
                await wait_until_async(
                    lambda: server.execute("INFO", "persistence")["rdb_last_bgsave_status"] == "err", "a snapshot fails"
                )
                count = count_refused_pings()
                await wait_until_async(lambda: count_refused_pings() > count + 2, "the listener pings")
                assert (store._listener.subscription_count, store._listener.subscribed_seconds > 0) == (1, True)
                server.execute("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")

        run_async(scenario())
