"""The driver's connection to a Cluster, which keeps working while one of its servers is down."""

from typing import TYPE_CHECKING

from redis._parsers import AsyncCommandsParser
from redis.exceptions import ConnectionError, TimeoutError

if TYPE_CHECKING:
    from redis.asyncio import RedisCluster
    from redis.asyncio.cluster import ClusterNode


class ClusterCommands(AsyncCommandsParser):
    """The commands that the servers have: loaded once, from any primary.

    The driver would load them from its first primary after each lost connection. While that is down, commands for the
    others would fail, too.
    """

    def __init__(self, cluster: "RedisCluster") -> None:
        super().__init__()
        self._cluster = cluster

    async def initialize(self, node: "ClusterNode | None" = None) -> None:
        if self.commands:
            return
        *others, last = self._cluster.get_primaries()
        for primary in others:
            try:
                return await super().initialize(primary)
            except (ConnectionError, TimeoutError):
                continue
        await super().initialize(last)
