"""Connections are reset and Redis is killed under load: every replica receives messages again afterwards."""

import asyncio
import contextlib
import random
import select
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from gateway.jobs.commit import Commit
from gateway.store.base import Applied
from gateway.store.redis import RedisStore
from gateway.store.redis.keys import CHANNEL
from tests.store import orders, servers
from tests.store.orders import NOON
from tests.store.redis.stories import opened, violations
from tests.store.servers import Server

_LINGER_NOT = struct.pack("ii", 1, 0)


def run(story: Coroutine[Any, Any, None]) -> None:
    """In the loop of production: it has errors of its own for connections that are reset."""
    uvloop.run(story)


class Resetter:
    """Between a store and its Redis: passes everything on or, while `is_bad`, resets three of ten connections after
    each of their messages, new ones included. In threads: it must not wait for the loop that it puts to the test."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._chance = random.Random(16)  # noqa: S311  it only has to be the same again
        self._open: set[socket.socket] = set()
        self.is_bad = False
        self.resets = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in list(self._open):
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._carry, args=(here, there), daemon=True).start()

    def _carry(self, here: socket.socket, there: socket.socket) -> None:
        self._open |= {here, there}
        try:
            while self._pass(here, there):
                continue
        except (OSError, ValueError):
            return
        finally:
            for one in (here, there):
                self._open.discard(one)
                one.close()

    def _pass(self, here: socket.socket, there: socket.socket) -> bool:
        """False when the connection is over."""
        for source in select.select((here, there), (), (), 60)[0]:
            if not (data := source.recv(1 << 16)):
                return False
            (there if source is here else here).sendall(data)
            if self.is_bad and self._chance.random() < 0.3:
                self.resets += 1
                here.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
                return False
        return True


async def listeners(server: Server) -> int:
    counts = await asyncio.to_thread(server.cli, "PUBSUB", "NUMSUB", CHANNEL)
    return int(counts[1])


def goes_on(server: Server, kept: list[Commit]) -> Callable[[], Coroutine[Any, Any, bool]]:
    """Both hear, and commits are acknowledged that were not before."""
    before = len(kept)

    async def holds() -> bool:
        return len(kept) > before + 5 and await listeners(server) == 2

    return holds


async def until(holds: Callable[[], Coroutine[Any, Any, bool]], seconds: float = 10.0) -> bool:
    ends = time.monotonic() + seconds
    while not await holds():
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(0.02)
    return True


@asynccontextmanager
async def busy(*stores: RedisStore) -> AsyncIterator[list[Commit]]:
    """Commits without a pause, through all of the stores at once; what was acknowledged. None of them is refused: what
    breaks is sent again, for as long as patience lasts."""
    kept: list[Commit] = []

    async def work(store: RedisStore) -> None:
        while True:
            commit = orders.acceptance(NOON)
            assert await store.commit(commit) == Applied()
            kept.append(commit)

    working = [asyncio.create_task(work(store)) for store in stores for _ in range(10)]
    try:
        yield kept
    finally:
        assert not [task.exception() for task in working if task.done()]
        for task in working:
            task.cancel()
        await asyncio.wait(working)


async def hears(store: RedisStore, other: RedisStore) -> bool:
    """Whether a change that one makes reaches the other one at once, and not only when it looks again by itself."""
    commit = orders.acceptance(NOON)
    assert await other.commit(commit) == Applied()
    with store.watch(commit.job.id) as watch:
        changed = orders.changed(commit.job, orders.opened(commit.job), NOON)
        assert await other.commit(changed) == Applied()
        return await watch.changed(2)


def test_connections_that_are_reset_again_and_again_leave_nobody_deaf(emptied: None, single_server: Server) -> None:
    async def story(way: Resetter) -> None:
        async with opened(way.url) as one, opened(way.url, owner="other") as other:
            async with busy(one, other) as kept:
                for _ in range(4):
                    way.is_bad = True
                    await asyncio.sleep(0.6)
                    way.is_bad = False
                    assert await until(goes_on(single_server, kept)), await listeners(single_server)
            assert way.resets > 20
            assert await hears(one, other)
            assert await hears(other, one)
            assert await violations(one) == 0

    way = Resetter(single_server.port)
    with contextlib.closing(way):
        run(story(way))


def test_a_redis_that_is_killed_ten_times_under_load_leaves_nobody_deaf(tmp_path: Path) -> None:
    async def story(server: Server) -> None:
        async with opened(server.url) as one, opened(server.url, owner="other") as other:
            async with busy(one, other) as kept:
                for _ in range(10):
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                    assert await until(goes_on(server, kept)), await listeners(server)
            assert await hears(one, other)
            assert await hears(other, one)
            assert [await other.load(commit.job.id) for commit in kept] == [commit.job for commit in kept]

    with servers.single(tmp_path) as server:
        run(story(server))
