"""Servers of a store whose primary can be killed, and is then replaced: by Sentinels, or by a Cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from gateway.store.partitions import team_partition
from gateway.store.redis.keys import PartitionKeys
from tests.chaos.store_audit import TEAM
from tests.harness.wait import wait_until
from tests.store.redis.cluster_nodes import PRIMARY_COUNT, ReplicatedCluster, is_primary, run_replicated_cluster
from tests.store.redis.sentinel_servers import (
    FAILOVER_TIMEOUT_SECONDS,
    SentinelDeployment,
    count_connected_replicas,
    run_sentinel_deployment,
)
from tests.store.redis_servers import RedisServer

_TEAM_KEYS = PartitionKeys(team_partition(TEAM))


class FailoverServers(Protocol):
    """`url`: for gateways. `primary`: the server that has the jobs of the team `chaos`."""

    url: str

    @property
    def primary(self) -> RedisServer: ...

    def wait_for_failover(self, old_primary: RedisServer) -> None:
        """Waits until another server is the primary."""

    def restart(self, old_primary: RedisServer) -> None:
        """Starts a killed primary after the failover, and waits until it is a replica with all data."""

    def cut_replication(self) -> None:
        """Ends the replication, so that no replica receives what the primary writes from now on."""


class SentinelServers:
    """A primary with replicas. Gateways use the documented user."""

    def __init__(self, deployment: SentinelDeployment) -> None:
        self._deployment = deployment
        self.url = deployment.create_user()

    @property
    def primary(self) -> RedisServer:
        return self._deployment.primary

    def wait_for_failover(self, old_primary: RedisServer) -> None:
        self._deployment.wait_for_failover(old_primary)

    def restart(self, old_primary: RedisServer) -> None:
        old_primary.start()
        self._deployment.create_user()
        wait_for_replicas(self.primary, len(self._deployment.servers) - 1)

    def cut_replication(self) -> None:
        self._deployment.cut_replication()


class ClusterServers:
    """Three primaries with a replica each."""

    def __init__(self, cluster: ReplicatedCluster) -> None:
        self._pair = cluster.find_pair(_TEAM_KEYS.due)
        self.url = cluster.url

    @property
    def primary(self) -> RedisServer:
        [server] = [server for server in self._pair if is_primary(server)]
        return server

    def wait_for_failover(self, old_primary: RedisServer) -> None:
        replica = self._get_other(old_primary)
        wait_until(lambda: is_primary(replica), "the replica is promoted", timeout_seconds=FAILOVER_TIMEOUT_SECONDS)

    def restart(self, old_primary: RedisServer) -> None:
        old_primary.start()
        wait_for_replicas(self._get_other(old_primary), 1)

    def cut_replication(self) -> None:
        primary = self.primary
        replica = self._get_other(primary)
        # It must replace the primary, however long the replication has been cut.
        replica.execute("CONFIG", "SET", "cluster-replica-validity-factor", "0")
        replica.execute("CONFIG", "SET", "masterauth", "wrong")
        primary.execute("CLIENT", "KILL", "TYPE", "replica")

    def _get_other(self, server: RedisServer) -> RedisServer:
        return self._pair[1] if server is self._pair[0] else self._pair[0]


def wait_for_replicas(primary: RedisServer, count: int) -> None:
    wait_until(
        lambda: count_connected_replicas(primary) == count,
        "the old primary is a replica",
        timeout_seconds=FAILOVER_TIMEOUT_SECONDS,
    )


def wait_for_replication(primary: RedisServer) -> None:
    """Waits until a replica has all that was written before."""
    with primary.make_client() as client:
        client.execute_command("SET", f"{_TEAM_KEYS.prefix}replicated", "1")
        assert client.execute_command("WAIT", 1, 60_000) == 1


@contextmanager
def run_failover_servers(kind: str, folder: Path, replica_count: int = 1) -> Iterator[FailoverServers]:
    """`kind`: sentinel or cluster. `replica_count`: of the primary behind Sentinels."""
    if kind == "sentinel":
        with run_sentinel_deployment(folder, replica_count) as deployment:
            yield SentinelServers(deployment)
    else:
        with run_replicated_cluster(folder, replica_count=PRIMARY_COUNT) as cluster:
            yield ClusterServers(cluster)
