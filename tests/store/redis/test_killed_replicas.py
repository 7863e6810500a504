"""A replica counts as killed only if the others are sure of it: its process has ended, and not only its connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.store.redis import RedisStore
from gateway.store.redis.keys import HEARTBEATS
from gateway.store.redis.killed_replica_detector import ReconnectionGrace
from gateway.store.redis.server_url import ServerKind
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.wait import wait_for_value_async, wait_until
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.redis.redis_stores import open_store, run_async
from tests.store.redis_servers import RedisServer

NO_GRACE = StoreTiming(restart_grace_seconds=0.0)


@asynccontextmanager
async def open_survivor(
    server: RedisServer, timing: StoreTiming = NO_GRACE, url: str = ""
) -> AsyncIterator[RedisStore]:
    """Opens a store beside the job of a replica that was killed."""
    async with open_store(server.url, replica_id="killed") as store:
        await store.commit(job_factory.make_create_commit(NOON))
    with server.make_client() as client:
        client.hset(HEARTBEATS, "killed", NOON)
    async with open_store(url or server.url, replica_id="survivor", timing=timing) as survivor:
        yield survivor


async def check_often(store: RedisStore) -> int:
    return sum([await store.expire_leases_of_killed_replicas() for _ in range(5)])


def test_second_check_finds_the_killed_replica(empty_redis: None, single_server: RedisServer) -> None:
    async def scenario() -> None:
        async with open_survivor(single_server) as survivor:
            assert [await survivor.expire_leases_of_killed_replicas() for _ in range(3)] == [0, 1, 0]

    run_async(scenario())


def test_no_replica_counts_as_killed_soon_after_a_reconnect(empty_redis: None, single_server: RedisServer) -> None:
    """After a restart of Redis, the other replicas may connect later than this one."""

    async def scenario() -> None:
        async with open_survivor(single_server, StoreTiming(restart_grace_seconds=600.0)) as survivor:
            assert await check_often(survivor) == 0

    run_async(scenario())


def test_replica_whose_subscription_is_cut_keeps_its_leases(empty_redis: None, single_server: RedisServer) -> None:
    """It subscribes again; its other connections show that its process is running."""

    async def scenario() -> None:
        async with (
            open_store(single_server.url, replica_id="busy", timing=NO_GRACE) as busy,
            open_store(single_server.url, replica_id="survivor", timing=NO_GRACE) as survivor,
        ):
            await busy.commit(job_factory.make_create_commit(NOON))
            await busy.expire_leases_of_killed_replicas()
            with single_server.make_client() as client:
                for _ in range(5):
                    client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                    assert await survivor.expire_leases_of_killed_replicas() == 0
                    await asyncio.sleep(0)

    run_async(scenario())


def test_leases_end_by_themselves_if_connections_cannot_be_listed(
    empty_redis: None, single_server: RedisServer
) -> None:
    """Some managed servers forbid the command."""

    async def scenario() -> None:
        with single_server.make_client() as client:
            client.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all", "-client|list")
        url = single_server.url.replace("redis://", "redis://limited:secret@")
        try:
            async with open_survivor(single_server, url=url) as survivor:
                assert await check_often(survivor) == 0
        finally:
            with single_server.make_client() as client:
                client.execute_command("ACL", "DELUSER", "limited")

    run_async(scenario())


def test_kill_is_found_in_a_cluster(clustered_server: RedisServer) -> None:
    clustered_server.execute("FLUSHALL")

    async def scenario() -> None:
        async with open_survivor(clustered_server) as survivor:
            count = await wait_for_value_async(survivor.expire_leases_of_killed_replicas, bool, "the leases ended")
            assert count == 1

    run_async(scenario())


def test_new_process_finds_killed_replica_at_once_if_redis_was_not_restarted(
    empty_redis: None, single_server: RedisServer
) -> None:
    """With the grace of the product, which has not passed since this process subscribed."""

    async def scenario() -> None:
        with single_server.make_client() as client:
            wait_until(lambda: client.info("server")["uptime_in_seconds"] >= 10, "Redis has been running for a while")
        async with open_survivor(single_server, StoreTiming()) as survivor:
            assert [await survivor.expire_leases_of_killed_replicas() for _ in range(3)] == [0, 1, 0]

    run_async(scenario())


@pytest.mark.parametrize(
    ("listener", "uptime", "client", "kind", "expected"),
    [
        ((5.0, 1), 1, {}, "server", True),
        ((4.9, 1), 9, {}, "server", False),
        ((0.0, 1), 10, {}, "server", True),
        ((4.9, 2), 9_000, {}, "server", False),
        ((0.0, 0), 9_000, {}, "server", False),
        ((4.9, 1), 9_000, {}, "sentinel", False),
        ((4.9, 1), 9_000, {"is_single": False}, "cluster", False),
        ((4.9, 1), 9_000, {"is_single": False}, "server", False),
    ],
)
def test_grace_is_waived_only_while_nothing_has_cut_off_the_others(
    listener: tuple[float, int], uptime: int, client: dict[str, bool], kind: ServerKind, expected: bool
) -> None:
    """`listener`: for how long it has been subscribed, and how often it has subscribed."""

    async def reply(*command: str) -> list[bytes]:
        return [f"# Server\r\nuptime_in_seconds:{uptime}\r\n".encode()]

    fake_client: Any = SimpleNamespace(**{"is_single": True, "execute_on_all_servers": reply, **client})
    fake_listener: Any = SimpleNamespace(subscribed_seconds=listener[0], subscription_count=listener[1])
    assert asyncio.run(ReconnectionGrace(fake_client, kind, fake_listener, 5.0).is_over()) is expected
