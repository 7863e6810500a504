"""Detects replicas whose processes have ended, so that their jobs need not wait until their leases end.

The kernel closes all connections of a process that ends, also after kill -9. The connections of a paused process stay
open: its leases end by themselves, as do those of a machine that disappears with its network.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping

from gateway.store.base import CLOSED_MARK_TTL_SECONDS, StoreUnavailable
from gateway.store.redis.change_listener import ChangeListener
from gateway.store.redis.keys import CLOSED_MARK_PREFIX, HEARTBEATS
from gateway.store.redis.redis_client import RedisClient, read_replica_ids
from gateway.store.redis.server_checks import parse_info
from gateway.store.redis.server_url import ServerKind


class KilledReplicaDetector:
    """Compares the replicas that have sent heartbeats with those that are connected.

    `list_replicas` records a heartbeat of this replica, and returns the ages of the last heartbeats of all replicas.
    `grace`: after a restart of Redis, until the others have connected again, too.
    """

    def __init__(
        self,
        client: RedisClient,
        replica_id: str,
        list_replicas: Callable[[], Awaitable[Mapping[str, float]]],
        grace: "ReconnectionGrace",
    ) -> None:
        self._client = client
        self._replica_id = replica_id
        self._list_replicas = list_replicas
        self._grace = grace
        self._missing: frozenset[str] = frozenset()
        self._reported: frozenset[str] = frozenset()

    async def find_killed(self) -> frozenset[str]:
        """Returns the replicas that have no connection in this check and had no subscription in the last one. Returns
        each once. Returns none while the servers cannot be asked: then leases end by themselves."""
        with contextlib.suppress(StoreUnavailable):
            return await self._find_killed()
        self._missing = frozenset()
        return frozenset()

    async def _find_killed(self) -> frozenset[str]:
        known = frozenset(await self._list_replicas())
        unreported = known - self._reported - {self._replica_id}
        if not unreported or not await self._grace.is_over():
            self._missing = frozenset()
            return frozenset()
        subscribed = await list_connected_replicas(self._client, "TYPE", "pubsub")
        missing = unreported - subscribed if self._replica_id in subscribed else frozenset()
        suspects, self._missing = missing & self._missing, missing
        if not suspects:
            return frozenset()
        killed = suspects - await list_connected_replicas(self._client)
        self._reported = (self._reported & known) | killed
        return killed


class ReconnectionGrace:
    """The time in which other replicas may not have connected again, although this one has.

    It is over once the subscription of this replica has worked for so long. The first subscription of a process need
    not wait if the only server has been running for twice as long: then nothing has ended the connections of the
    others. A later one has to, since its predecessor was cut off, and so does a server that others can replace.
    """

    def __init__(self, client: RedisClient, kind: ServerKind, listener: ChangeListener, seconds: float) -> None:
        self._client = client
        self._is_only_server = client.is_single and kind == "server"
        self._listener = listener
        self._seconds = seconds

    async def is_over(self) -> bool:
        """Raises StoreUnavailable if the server does not say for how long it has been running."""
        if self._listener.subscribed_seconds >= self._seconds:
            return True
        if not self._is_only_server or self._listener.subscription_count != 1:
            return False
        [reply] = await self._client.execute_on_all_servers("INFO", "server")
        return float(parse_info(reply).get("uptime_in_seconds", 0)) >= 2 * self._seconds


async def list_connected_replicas(client: RedisClient, *client_filter: str) -> frozenset[str]:
    """Returns the replicas that have connections to any server. Each connection has its replica's name."""
    replies = await client.execute_on_all_servers("CLIENT", "LIST", *client_filter)
    return frozenset(replica_id for reply in replies for replica_id in read_replica_ids(reply))


async def mark_replica_closed(client: RedisClient, replica_id: str) -> None:
    """Marks this replica as closed. Without the mark it counts as killed, and its callers are removed from their jobs.
    Then a client that got 202 could share its job with another request. Also deletes its heartbeat."""
    with contextlib.suppress(StoreUnavailable):
        await client.execute("HDEL", HEARTBEATS, replica_id)
    if not client.is_single:
        return
    with contextlib.suppress(StoreUnavailable):
        await client.execute("SET", f"{CLOSED_MARK_PREFIX}{replica_id}", "", "EX", int(CLOSED_MARK_TTL_SECONDS))
