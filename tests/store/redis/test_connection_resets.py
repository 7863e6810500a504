"""Connections are reset and Redis is killed under load: every replica receives messages again afterwards."""

import asyncio
import contextlib
import random
import select
import socket
import struct
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.jobs.commit import Commit
from gateway.store.base import Applied
from gateway.store.redis import RedisStore
from gateway.store.redis.keys import CHANGES_CHANNEL
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.wait import wait_for_value_async, wait_until_async
from tests.store import job_factory, redis_servers
from tests.store.job_factory import NOON
from tests.store.redis.redis_stores import count_discrepancies, open_store
from tests.store.redis_servers import RedisServer

PROGRESS_SECONDS = 60.0
# A busy machine may take a while to start Redis again.
TIMING = StoreTiming(command_timeout_seconds=PROGRESS_SECONDS)
_NO_LINGER = struct.pack("ii", 1, 0)


def run_on_uvloop(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs on the event loop of production, which has errors of its own for reset connections."""
    uvloop.run(scenario)


class ResettingProxy:
    """A TCP proxy in front of Redis. While `is_resetting`, it resets three of ten connections after each message, new
    ones included. It runs in threads, because it must not wait for the event loop under test."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._random = random.Random(16)  # noqa: S311  only repeatability matters
        self._sockets: set[socket.socket] = set()
        self.is_resetting = False
        self.reset_count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._sockets):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                threading.Thread(target=self._relay, args=(client, server), daemon=True).start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        self._sockets |= {client, server}
        try:
            while self._relay_once(client, server):
                continue
        except (OSError, ValueError):
            return
        finally:
            for connection in (client, server):
                self._sockets.discard(connection)
                connection.close()

    def _relay_once(self, client: socket.socket, server: socket.socket) -> bool:
        """Relays one message. Returns False if the connection has ended."""
        for source in select.select((client, server), (), (), 60)[0]:
            if not (data := source.recv(1 << 16)):
                return False
            (server if source is client else client).sendall(data)
            if self.is_resetting and self._random.random() < 0.3:
                self.reset_count += 1
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                return False
        return True


async def count_subscribers(server: RedisServer) -> int:
    counts = await asyncio.to_thread(server.execute, "PUBSUB", "NUMSUB", CHANGES_CHANNEL)
    return int(counts[1])


async def wait_for_progress(server: RedisServer, commits: list[Commit]) -> None:
    """Waits until new commits are acknowledged and then both replicas are subscribed."""
    count_before = len(commits)
    await wait_until_async(lambda: len(commits) > count_before + 5, "new commits are acknowledged", PROGRESS_SECONDS)
    await wait_for_value_async(
        lambda: count_subscribers(server), lambda count: count == 2, "both replicas are subscribed", PROGRESS_SECONDS
    )


@asynccontextmanager
async def keep_committing(*stores: RedisStore) -> AsyncIterator[list[Commit]]:
    """Commits without a pause through all stores, and yields the list of acknowledged commits. No commit is refused:
    after a broken connection it is sent again, until the timeout."""
    commits: list[Commit] = []

    async def commit_forever(store: RedisStore) -> None:
        while True:
            commit = job_factory.make_create_commit(NOON)
            assert await store.commit(commit) == Applied()
            commits.append(commit)

    tasks = [asyncio.create_task(commit_forever(store)) for store in stores for _ in range(10)]
    try:
        yield commits
    finally:
        assert not [task.exception() for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def receives_changes(store: RedisStore, other: RedisStore) -> bool:
    """Whether a change by one store reaches the other at once, and not only at its next regular check."""
    commit = job_factory.make_create_commit(NOON)
    assert await other.commit(commit) == Applied()
    with store.watch(commit.job.id) as watch:
        changed = job_factory.make_update_commit(commit.job, job_factory.make_attempt_started(commit.job), NOON)
        assert await other.commit(changed) == Applied()
        return await watch.wait_for_change(30)


def test_replicas_receive_changes_after_repeated_connection_resets(
    empty_redis: None, single_server: RedisServer
) -> None:
    async def scenario(proxy: ResettingProxy) -> None:
        async with (
            open_store(proxy.url, timing=TIMING) as store,
            open_store(proxy.url, timing=TIMING, replica_id="other") as other,
        ):
            async with keep_committing(store, other) as commits:
                for number in range(1, 5):
                    proxy.is_resetting = True
                    await wait_until_async(
                        lambda number=number: proxy.reset_count > 5 * number, "connections were reset"
                    )
                    proxy.is_resetting = False
                    await wait_for_progress(single_server, commits)
            assert await receives_changes(store, other)
            assert await receives_changes(other, store)
            assert await count_discrepancies(store) == 0

    proxy = ResettingProxy(single_server.port)
    with contextlib.closing(proxy):
        run_on_uvloop(scenario(proxy))


@pytest.mark.thorough
def test_replicas_receive_changes_after_ten_server_kills(tmp_path: Path) -> None:
    async def scenario(server: RedisServer) -> None:
        async with (
            open_store(server.url, timing=TIMING) as store,
            open_store(server.url, timing=TIMING, replica_id="other") as other,
        ):
            async with keep_committing(store, other) as commits:
                for _ in range(10):
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                    await wait_for_progress(server, commits)
            assert await receives_changes(store, other)
            assert await receives_changes(other, store)
            assert [await other.load_job(commit.job.id) for commit in commits] == [commit.job for commit in commits]

    with redis_servers.run_single_server(tmp_path) as server:
        run_on_uvloop(scenario(server))
