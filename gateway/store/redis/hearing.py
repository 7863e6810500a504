"""Hears of changes that other replicas make, on a connection of its own: commands never wait for it.

That it is there tells others that this process lives: a channel of the replica's own has a listener as long as that.
"""

import asyncio
from collections.abc import Callable

from gateway.store.redis.keys import CHANNEL, REPLICAS
from gateway.store.redis.link import single_client
from gateway.store.watching import Watches
from gateway.supervision import SupervisedTask, Supervisor

QUIET_SECONDS = 5.0
# Watchers look again by themselves every 2 s; a longer pause without messages would delay them.
MAX_BACKOFF_SECONDS = 1.0


class Hearing:
    """`where` names a server that is up; every one of a Cluster passes on what any of them publishes."""

    def __init__(self, where: Callable[[], str], owner: str, watches: Watches, supervisor: Supervisor) -> None:
        self._where = where
        self._channels = CHANNEL, f"{REPLICAS}{owner}"
        self._watches = watches
        self._supervisor = supervisor
        self._task: SupervisedTask | None = None

    async def start(self) -> None:
        """Returns when it listens, or after its first failure, since watchers also look by themselves."""
        tried = asyncio.Event()

        async def listen(task: SupervisedTask) -> None:
            try:
                await self._listen(task, tried)
            finally:
                tried.set()

        self._task = self._supervisor.run("store.changes", listen, MAX_BACKOFF_SECONDS)
        await tried.wait()

    async def _listen(self, task: SupervisedTask, tried: asyncio.Event) -> None:
        """A connection that says nothing is asked whether it still lives: a hole in the network says nothing, too."""
        async with single_client(self._where(), connections=1) as client, client.pubsub() as channel:
            await channel.subscribe(*self._channels)
            task.succeeded()
            tried.set()
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
            await self._task.stop()
