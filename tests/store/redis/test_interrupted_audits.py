"""An audit of a partition keeps others out, until it ends or the process that runs it does."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.store.redis.keys import PartitionKeys
from gateway.store.redis.partition_auditor import AUDIT_TTL_SECONDS
from tests.store.redis.redis_stores import open_store, run_async
from tests.store.redis_servers import RedisServer

pytestmark = pytest.mark.usefixtures("empty_redis")

PARTITION = 7
AUDIT_KEY = PartitionKeys(PARTITION).audit
# Much less than a wait until an audit without an end expires.
SHORT_SECONDS = AUDIT_TTL_SECONDS / 4


def begin_audit(server: RedisServer, token: str) -> None:
    server.execute("SADD", AUDIT_KEY, token)
    server.execute("EXPIRE", AUDIT_KEY, AUDIT_TTL_SECONDS)


def test_audit_of_a_killed_process_is_replaced(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store, asyncio.timeout(SHORT_SECONDS):
            begin_audit(single_server, "token:0:killed")
            await store.audit(PARTITION)
        assert single_server.execute("EXISTS", AUDIT_KEY) == 0

    run_async(scenario())


def test_audit_of_a_running_process_is_awaited(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store, AsyncExitStack() as other_process:
            other = await other_process.enter_async_context(open_store(single_server.url))
            begin_audit(single_server, f"token:0:{other.replica_id}")
            audit = asyncio.create_task(store.audit(PARTITION))
            await asyncio.wait([audit], timeout=1.0)
            assert not audit.done()
            assert single_server.execute("SMEMBERS", AUDIT_KEY) == {f"token:0:{other.replica_id}".encode()}
            await other_process.aclose()
            async with asyncio.timeout(SHORT_SECONDS):
                await audit

    run_async(scenario())


def test_audit_of_an_older_version_is_awaited(single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_store(single_server.url) as store:
            begin_audit(single_server, "token:0")
            audit = asyncio.create_task(store.audit(PARTITION))
            await asyncio.wait([audit], timeout=1.0)
            assert not audit.done()
            single_server.execute("DEL", AUDIT_KEY)
            async with asyncio.timeout(SHORT_SECONDS):
                await audit

    run_async(scenario())
