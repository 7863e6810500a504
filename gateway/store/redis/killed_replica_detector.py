"""Detects replicas whose processes have ended, so that their jobs need not wait until their leases end.

The kernel closes all connections of a process that ends, also after kill -9. The connections of a paused process stay
open: its leases end by themselves, as do those of a machine that disappears with its network.
"""

import contextlib
from collections.abc import Awaitable, Callable, Mapping

from gateway.store.base import StoreUnavailable
from gateway.store.redis.redis_client import RedisClient, read_replica_ids


class KilledReplicaDetector:
    """Compares the replicas that have sent heartbeats with those that are connected.

    `list_replicas` records a heartbeat of this replica, and returns the ages of the last heartbeats of all replicas.
    `is_settled` returns whether this replica's own subscription has been working for so long that, after a restart of
    Redis, the others have connected again, too.
    """

    def __init__(
        self,
        client: RedisClient,
        replica_id: str,
        list_replicas: Callable[[], Awaitable[Mapping[str, float]]],
        is_settled: Callable[[], bool],
    ) -> None:
        self._client = client
        self._replica_id = replica_id
        self._list_replicas = list_replicas
        self._is_settled = is_settled
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
        if not unreported or not self._is_settled():
            self._missing = frozenset()
            return frozenset()
        subscribed = await self._list_connected("TYPE", "pubsub")
        missing = unreported - subscribed if self._replica_id in subscribed else frozenset()
        suspects, self._missing = missing & self._missing, missing
        if not suspects:
            return frozenset()
        killed = suspects - await self._list_connected()
        self._reported = (self._reported & known) | killed
        return killed

    async def _list_connected(self, *client_filter: str) -> frozenset[str]:
        """Returns the replicas that have connections to any server. Each connection has its replica's name."""
        replies = await self._client.execute_on_all_servers("CLIENT", "LIST", *client_filter)
        return frozenset(replica_id for reply in replies for replica_id in read_replica_ids(reply))
