"""The stores of chaos runs. Each says how gateways find it, and what can be done to it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Protocol

from gateway.store.base import Store
from gateway.store.partitions import team_partition
from gateway.store.redis import RedisStore
from gateway.store.redis.keys import API_KEYS, PartitionKeys
from gateway.store.sqlite import SqliteStore
from tests.chaos.program.run_options import StoreKind
from tests.chaos.program.run_state import TEAM
from tests.harness.gateway_environ import make_redis_environ
from tests.store.redis.cluster_nodes import PRIMARY_COUNT, ReplicatedCluster, is_primary, run_replicated_cluster
from tests.store.redis.sentinel_servers import SentinelDeployment, run_sentinel_deployment
from tests.store.redis_servers import RedisServer, run_single_server

# Sentinels notice after two seconds, and replace a primary within a few more, unless no replica is fit.
MAX_UNNOTICED_SECONDS, MAX_FAILOVER_SECONDS = 1.0, 30.0


class StoreServer(Protocol):
    """`max_replicas`: gateways that can share it. `wait_replicas`: copies that confirm what gateways write.
    `max_down_seconds`: how long a killed server is down. `max_freeze_seconds`: how long one stands still. `environ`: of
    the gateways that use it."""

    max_replicas: int
    wait_replicas: int
    max_down_seconds: float
    max_freeze_seconds: float
    environ: dict[str, str]

    def make_store(self) -> Store:
        """Makes a store of the run's own, beside those of the gateways."""

    def kill(self) -> bool:
        """Kills the server. Returns False if there is none."""

    def restart(self) -> None: ...

    def freeze(self) -> bool:
        """Stops the server without ending its connections. Returns False if there is none."""

    def thaw(self) -> None: ...

    def may_return(self, stopped_seconds: float) -> bool:
        """Whether a server that was killed or frozen so long ago may return now."""


class SqliteFile:
    """The file of the only gateway: it has no server that could be killed."""

    max_replicas = 1
    wait_replicas = 0
    max_down_seconds = max_freeze_seconds = 0.0

    def __init__(self, gateway_data: Path) -> None:
        self._path = gateway_data / "gateway.db"
        self.environ: dict[str, str] = {}

    def make_store(self) -> Store:
        return SqliteStore(self._path)

    def kill(self) -> bool:
        return False

    def freeze(self) -> bool:
        return False

    def restart(self) -> None:
        """There is nothing to start."""

    def thaw(self) -> None:
        """There is nothing that stands still."""

    def may_return(self, stopped_seconds: float) -> bool:
        return True


class SingleRedis:
    """One Redis with an append-only file that is written before each reply, as docs/stores.md demands."""

    max_replicas = 8
    wait_replicas = 0
    max_down_seconds, max_freeze_seconds = 2.0, 4.5

    def __init__(self, server: RedisServer, images: Path) -> None:
        self._server = server
        self.environ = make_redis_environ(server.url, images)

    def make_store(self) -> Store:
        return RedisStore(self._server.url)

    def kill(self) -> bool:
        self._server.kill()
        return True

    def restart(self) -> None:
        self._server.start()

    def freeze(self) -> bool:
        os.kill(self._server.pid, signal.SIGSTOP)
        return True

    def thaw(self) -> None:
        os.kill(self._server.pid, signal.SIGCONT)

    def may_return(self, stopped_seconds: float) -> bool:
        return True


class RedisWithSentinels:
    """A primary with two replicas of it. Three Sentinels replace the primary once it has been silent for two seconds;
    the server that was replaced becomes a replica, also if it was only frozen."""

    max_replicas = 8
    wait_replicas = 1
    max_down_seconds, max_freeze_seconds = 10.0, 4.5

    def __init__(self, deployment: SentinelDeployment, images: Path) -> None:
        self._deployment = deployment
        self._disturbed: RedisServer | None = None
        self.environ = make_redis_environ(deployment.url, images)

    def make_store(self) -> Store:
        return RedisStore(self._deployment.url)

    def kill(self) -> bool:
        self._find_primary().kill()
        return True

    def restart(self) -> None:
        self._disturbed_server.start()

    def freeze(self) -> bool:
        os.kill(self._find_primary().pid, signal.SIGSTOP)
        return True

    def thaw(self) -> None:
        os.kill(self._disturbed_server.pid, signal.SIGCONT)

    def may_return(self, stopped_seconds: float) -> bool:
        """A primary that returns while it is being replaced is still followed by a replica, which confirms what is lost
        then. So it returns before the Sentinels notice, or when all of them have replaced it."""
        is_replaced = self._deployment.list_primary_ports().isdisjoint({self._disturbed_server.port, None})
        return stopped_seconds < MAX_UNNOTICED_SECONDS or is_replaced or stopped_seconds > MAX_FAILOVER_SECONDS

    def _find_primary(self) -> RedisServer:
        """Finds the server that one Sentinel takes for the primary. During a failover, others may not agree."""
        port = self._deployment.sentinels[0].find_primary_port()
        [self._disturbed] = [server for server in self._deployment.servers if server.port == port]
        return self._disturbed

    @property
    def _disturbed_server(self) -> RedisServer:
        assert self._disturbed is not None, "no server was killed or frozen"
        return self._disturbed


class RedisInCluster:
    """Three primaries with a replica each, which replaces its primary once that has been silent for two seconds. The
    primaries of the team and of the API keys are disturbed in turn. None stands still for so long that it is replaced:
    until it learned that, it could accept what is lost later."""

    max_replicas = 8
    wait_replicas = 0
    max_down_seconds, max_freeze_seconds = 10.0, 1.0

    def __init__(self, cluster: ReplicatedCluster, images: Path) -> None:
        self._cluster = cluster
        self._pairs = cycle(cluster.find_pair(key) for key in (PartitionKeys(team_partition(TEAM)).due, API_KEYS))
        self._disturbed = cluster.primaries[0]
        self.environ = make_redis_environ(cluster.url, images)

    def make_store(self) -> Store:
        return RedisStore(self._cluster.url)

    def kill(self) -> bool:
        self._choose_primary().kill()
        return True

    def restart(self) -> None:
        self._disturbed.start()

    def freeze(self) -> bool:
        self._choose_primary().send_signal(signal.SIGSTOP)
        return True

    def thaw(self) -> None:
        self._disturbed.send_signal(signal.SIGCONT)

    def may_return(self, stopped_seconds: float) -> bool:
        """A primary that returns accepts nothing for two seconds: in this time it learns that it was replaced."""
        return True

    def _choose_primary(self) -> RedisServer:
        """Chooses the next primary. After a failover, an old one may take itself for the primary for a moment."""
        self._disturbed = next(server for server in next(self._pairs) if is_primary(server))
        return self._disturbed


@contextmanager
def run_store(kind: StoreKind, folder: Path, gateway_data: Path) -> Iterator[StoreServer]:
    """Starts the server of a store, and ends it after the block. A new kind of store is one more case here."""
    match kind:
        case StoreKind.SQLITE:
            yield SqliteFile(gateway_data)
        case StoreKind.REDIS:
            with run_single_server(folder / "redis") as server:
                yield SingleRedis(server, folder / "images")
        case StoreKind.SENTINEL:
            with run_sentinel_deployment(folder / "redis", replica_count=2) as deployment:
                yield RedisWithSentinels(deployment, folder / "images")
        case StoreKind.CLUSTER:
            with run_replicated_cluster(folder / "redis", replica_count=PRIMARY_COUNT) as cluster:
                yield RedisInCluster(cluster, folder / "images")
