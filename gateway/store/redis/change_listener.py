"""Subscribes to changes that other replicas publish, on a separate connection, for which commands never wait.

It also subscribes to the channel of this replica. That subscription shows other replicas that this process is alive.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ResponseError

from gateway.store.job_watch import JobWatchers
from gateway.store.redis.keys import CHANGES_CHANNEL, REPLICA_CHANNEL_PREFIX
from gateway.store.redis.redis_client import create_client, make_client_name
from gateway.store.redis.server_url import ServerUrl
from gateway.task_supervisor import SupervisedTask, TaskSupervisor
from gateway.timeouts_and_intervals import StoreTiming


class ChangeListener:
    """Listens for changes. `pick_server` returns where to connect: in a Cluster each server forwards all messages."""

    def __init__(
        self, pick_server: Callable[[], ServerUrl], replica_id: str, watchers: JobWatchers, timing: StoreTiming
    ) -> None:
        self._pick_server = pick_server
        self._channels = CHANGES_CHANNEL, f"{REPLICA_CHANNEL_PREFIX}{replica_id}"
        self._client_name = make_client_name(replica_id)
        self._watchers = watchers
        self._timing = timing
        self._task: SupervisedTask | None = None
        self._subscribed_at: float | None = None
        # Including the subscriptions that have ended.
        self.subscription_count = 0

    @property
    def subscribed_seconds(self) -> float:
        """How long the subscription has been working; 0 while it is not."""
        return 0.0 if self._subscribed_at is None else monotonic() - self._subscribed_at

    async def start(self, supervisor: TaskSupervisor) -> None:
        """Starts the listener. Returns once it is subscribed, or after one failed attempt: watchers also check for
        changes regularly."""
        first_attempt = asyncio.Event()

        async def listen_once(task: SupervisedTask) -> None:
            try:
                await self._receive_changes(task, first_attempt)
            finally:
                self._subscribed_at = None
                first_attempt.set()

        self._task = supervisor.run("store.change_listener", listen_once, self._timing.max_listener_backoff_seconds)
        await first_attempt.wait()

    async def _receive_changes(self, task: SupervisedTask, first_attempt: asyncio.Event) -> None:
        """Subscribes and passes changes to the watchers. Pings a silent connection, since it may be broken."""
        async with self._create_client() as client, client.pubsub() as subscription:
            await subscription.subscribe(*self._channels)
            task.record_success()
            self._subscribed_at = monotonic()
            self.subscription_count += 1
            first_attempt.set()
            self._watchers.notify_all()
            while True:
                message = await self._receive_message(subscription)
                if message is None:
                    await subscription.ping()
                    if await self._receive_message(subscription) is None:
                        raise ConnectionError("The subscription does not answer a ping.")
                elif message["type"] == "message":
                    job_id, _, version = message["data"].decode().partition(" ")
                    self._watchers.notify(job_id, int(version))

    async def _receive_message(self, subscription: PubSub) -> dict[str, Any] | None:
        """Returns the next message, or None after a silence. A refused ping is an answer, too: Redis refuses pings
        while it cannot write to its disk."""
        try:
            message: dict[str, Any] | None = await subscription.get_message(timeout=self._timing.idle_seconds)
            return message
        except ResponseError:
            return {"type": "refused ping"}

    def _create_client(self) -> "Redis":
        return create_client(self._pick_server(), 1, self._timing, self._client_name)

    async def close(self) -> None:
        if self._task:
            await self._task.stop()
