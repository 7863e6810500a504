"""A failed commit may still be applied only if a server received it and its result is unknown."""

import asyncio
import socket

import pytest

from gateway.store.base import Applied, StoreFull, StoreOutcomeUnknown, StoreReadOnly, StoreUnavailable
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.wait import wait_for_value_async
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.redis.faulty_proxy import SCRIPT_COMMANDS, FaultyProxy, ReplyRule, make_error_rule
from tests.store.redis.redis_stores import open_store, run_async
from tests.store.redis_servers import RedisServer

pytestmark = pytest.mark.usefixtures("empty_redis")
TIMING = StoreTiming(command_timeout_seconds=1.0)


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        ("LOADING loading", StoreOutcomeUnknown, "loading"),
        ("MISCONF disk", StoreReadOnly, "Make room on that disk"),
        ("OOM full", StoreFull, "Raise maxmemory"),
        ("READONLY replica", StoreReadOnly, "lead to the primary"),
        ("NOREPLICAS none", StoreReadOnly, "Start the replicas"),
    ],
)
def test_error_reply_means_nothing_was_committed(
    single_server: RedisServer, error: str, kind: type[StoreUnavailable], remedy: str
) -> None:
    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url, timing=TIMING) as store:
            commit = job_factory.make_create_commit(NOON)
            proxy.reply_rule = make_error_rule(error, 1_000)
            with pytest.raises(StoreUnavailable, match=remedy) as refused:
                await store.commit(commit)
            assert type(refused.value) is kind
            proxy.reply_rule = None
            assert await store.load_job(commit.job.id) is None

    run_async(scenario())


def test_full_memory_after_script_flush_commits_nothing(single_server: RedisServer) -> None:
    """The server first reports that it has no script, and then that its memory is full."""

    async def scenario() -> None:
        async with open_store(single_server.url, timing=TIMING) as store:
            commit = job_factory.make_create_commit(NOON)
            single_server.execute("SCRIPT", "FLUSH")
            single_server.execute("CONFIG", "SET", "maxmemory", "1mb")
            try:
                with pytest.raises(StoreFull):
                    await store.commit(commit)
            finally:
                single_server.execute("CONFIG", "SET", "maxmemory", "0")
            assert await store.load_job(commit.job.id) is None

    run_async(scenario())


def test_lost_reply_stays_unknown_after_script_flush(single_server: RedisServer) -> None:
    """The command was executed. Before it is sent again, the server loses its scripts and its memory becomes full."""

    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url, timing=TIMING) as store:
            commit = job_factory.make_create_commit(NOON)
            assert await store.commit(job_factory.make_create_commit(NOON)) == Applied(), (
                "the server has loaded the script by now"
            )
            proxy.replies_to_lose, proxy.reply_rule = 1, _make_flushed_and_full_rule(proxy)
            with pytest.raises(StoreOutcomeUnknown):
                await store.commit(commit)
            proxy.reply_rule = None
            assert await store.load_job(commit.job.id) == commit.job

    run_async(scenario())


def _make_flushed_and_full_rule(proxy: FaultyProxy) -> ReplyRule:
    """Returns a rule that reports missing scripts and full memory after a reply was lost."""

    def reply_with_error(command: bytes) -> bytes | None:
        if proxy.replies_to_lose or command.upper() not in SCRIPT_COMMANDS:
            return None
        return b"-NOSCRIPT no such script\r\n" if command.upper() == b"EVALSHA" else b"-OOM no room\r\n"

    return reply_with_error


def test_unreachable_server_means_nothing_was_committed(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url, timing=TIMING) as store:
            commit = job_factory.make_create_commit(NOON)
            single_server.stop()
            try:
                await asyncio.sleep(0.2)
                with pytest.raises(StoreUnavailable) as refused:
                    await store.commit(commit)
            finally:
                single_server.start()
            assert not isinstance(refused.value, StoreOutcomeUnknown)
            assert await store.load_job(commit.job.id) is None

    run_async(scenario())


def test_closed_store_means_nothing_was_committed(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url, timing=TIMING) as store:
            pass
        with pytest.raises(StoreUnavailable) as refused:
            await store.commit(job_factory.make_create_commit(NOON))
        assert not isinstance(refused.value, StoreOutcomeUnknown)

    run_async(scenario())


def test_silent_server_leaves_the_outcome_unknown(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url, timing=TIMING) as store:
            assert await store.commit(job_factory.make_create_commit(NOON)) == Applied(), (
                "the server has loaded the script by now"
            )
            commit = job_factory.make_create_commit(NOON)
            proxy.is_flowing.clear()
            with pytest.raises(StoreOutcomeUnknown):
                await store.commit(commit)
            proxy.is_flowing.set()
            # The command was delayed, not lost.
            await wait_for_value_async(
                lambda: store.load_job(commit.job.id), lambda job: job == commit.job, "the job is committed"
            )
            assert await store.commit(commit) == Applied()

    run_async(scenario())


def test_lost_replies_leave_the_outcome_unknown(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url, timing=TIMING) as store:
            # The server loads the script: a lost reply could also say that it has not.
            assert await store.commit(job_factory.make_create_commit(NOON)) == Applied()
            commit = job_factory.make_create_commit(NOON)
            proxy.replies_to_lose = 1_000
            with pytest.raises(StoreOutcomeUnknown):
                await store.commit(commit)
            proxy.replies_to_lose = 0
            assert await store.load_job(commit.job.id) == commit.job

    run_async(scenario())


@pytest.mark.thorough
def test_commit_given_up_before_connecting_is_never_sent(single_server: RedisServer) -> None:
    """The server accepts connections only after the caller's timeout."""

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
            async with FaultyProxy(single_server.port) as proxy, open_store(proxy.url, timing=TIMING) as store:
                port, proxy._server_port = proxy._server_port, silent.getsockname()[1]
                await store._client.driver.connection_pool.disconnect()
                commit = job_factory.make_create_commit(NOON)
                with pytest.raises(StoreUnavailable):
                    await store.commit(commit)
                proxy._server_port = port
                await asyncio.sleep(1.0)
                assert await store.load_job(commit.job.id) is None

    run_async(scenario())
