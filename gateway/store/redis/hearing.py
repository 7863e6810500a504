"""Hears of changes that other replicas make, on a connection of its own: commands never wait for it."""

import asyncio
from collections.abc import Callable

from redis.exceptions import RedisError

from gateway.store.redis.keys import CHANNEL
from gateway.store.redis.lane import ended
from gateway.store.redis.link import single_client
from gateway.store.watching import Watches

PAUSE_SECONDS = 0.5
QUIET_SECONDS = 5.0


class Hearing:
    """`where` names a server that is up; every one of a Cluster passes on what any of them publishes."""

    def __init__(self, where: Callable[[], str], watches: Watches) -> None:
        self._where = where
        self._watches = watches
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._listen_forever())
        await self._listening.wait()

    async def _listen_forever(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError):
                # Nobody waits for messages alone; watchers look again by themselves from time to time.
                self._listening.set()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _listen(self) -> None:
        """A connection that says nothing is asked whether it still lives: a hole in the network says nothing, too."""
        async with single_client(self._where(), connections=1) as client, client.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            self._listening.set()
            self._watches.tell_all()
            while True:
                message = await channel.get_message(timeout=QUIET_SECONDS)
                if message is None:
                    await channel.ping()
                    if await channel.get_message(timeout=QUIET_SECONDS) is None:
                        raise ConnectionError("the subscription is dead")
                elif message["type"] == "message":
                    self._watches.tell(message["data"].decode())

    async def close(self) -> None:
        if self._task:
            await ended(self._task)
