"""Clusters of several real nodes."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from tests.harness.wait import wait_until
from tests.store import redis_servers
from tests.store.redis_servers import RedisServer

SLOT_COUNT = redis_servers.SLOT_COUNT
# The votes of most primaries are needed to promote a replica.
PRIMARY_COUNT = 3
REPLICATION_OPTIONS = (
    *("--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"),
    *("--repl-diskless-sync-delay", "0"),
)


def join_nodes(old: RedisServer, new: RedisServer) -> None:
    """Joins the nodes to a Cluster. The first one has all slots."""
    _release_all_slots(new)
    for server in (new, old):
        server.execute("CLUSTER", "BUMPEPOCH")
    _introduce(old, new)
    wait_until(lambda: all(_is_complete(server, 2) for server in (old, new)), "both nodes form a Cluster")


def move_empty_slots(servers: Sequence[RedisServer], new_owner: RedisServer, first_slot: int, end: int) -> None:
    """Assigns slots without keys to this node. `servers`: all nodes."""
    for server in servers:
        server.execute("CLUSTER", "DELSLOTSRANGE", first_slot, end - 1)
    new_owner.execute("CLUSTER", "ADDSLOTSRANGE", first_slot, end - 1)
    new_owner.execute("CLUSTER", "BUMPEPOCH")


def wait_for_size(servers: Sequence[RedisServer], size: int) -> None:
    """Waits until all nodes agree that so many of them have slots."""
    wait_until(
        lambda: all(read_cluster_info(server)["cluster_size"] == str(size) for server in servers),
        f"{size} nodes have slots",
    )


class ReplicatedCluster(Struct, frozen=True):
    """Primaries, which share the slots evenly, and a replica of each of the last ones."""

    primaries: tuple[RedisServer, ...]
    replicas: tuple[RedisServer, ...]

    @property
    def servers(self) -> tuple[RedisServer, ...]:
        return (*self.primaries, *self.replicas)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"redis+cluster://{hosts}"

    def find_primary_index(self, key: str) -> int:
        """Returns which of the first primaries has this key."""
        return int(self.replicas[0].execute("CLUSTER", "KEYSLOT", key)) * PRIMARY_COUNT // SLOT_COUNT

    def find_pair(self, key: str) -> tuple[RedisServer, RedisServer]:
        """Returns the first primary of this key, and its replica. Either may be the primary by now."""
        index = self.find_primary_index(key)
        return self.primaries[index], self.replicas[index - PRIMARY_COUNT]

    def is_replica_promoted(self) -> bool:
        """Returns whether the replica of the last primary has replaced it."""
        return is_primary(self.replicas[-1])


def is_primary(server: RedisServer) -> bool:
    return str(server.execute("INFO", "replication")["role"]) == "master"


@contextmanager
def run_replicated_cluster(
    folder: Path, program: str = "redis-server", replica_count: int = 1
) -> Iterator[ReplicatedCluster]:
    with ExitStack() as running:
        servers = [
            running.enter_context(
                redis_servers.run_cluster_server(folder / f"node-{number}", *REPLICATION_OPTIONS, program=program)
            )
            for number in range(PRIMARY_COUNT + replica_count)
        ]
        first, *others = servers
        for server in others:
            _release_all_slots(server)
            _introduce(first, server)
        wait_until(lambda: all(_is_complete(server, len(servers)) for server in servers), "all nodes form a Cluster")
        primaries, replicas = servers[:PRIMARY_COUNT], servers[PRIMARY_COUNT:]
        bounds = [-(-SLOT_COUNT * number // PRIMARY_COUNT) for number in range(PRIMARY_COUNT + 1)]
        for number in range(1, PRIMARY_COUNT):
            move_empty_slots(servers, primaries[number], bounds[number], bounds[number + 1])
        wait_for_size(servers, PRIMARY_COUNT)
        for primary, replica in zip(primaries[-replica_count:], replicas, strict=True):
            replica.execute("CLUSTER", "REPLICATE", primary.execute("CLUSTER", "MYID").decode())
        wait_until(
            lambda: all(
                replica.execute("INFO", "replication").get("master_link_status") == "up" for replica in replicas
            ),
            "the replicas are connected",
        )
        yield ReplicatedCluster(tuple(primaries), tuple(replicas))


def _release_all_slots(server: RedisServer) -> None:
    server.execute("CLUSTER", "DELSLOTSRANGE", 0, SLOT_COUNT - 1)


def _introduce(old: RedisServer, new: RedisServer) -> None:
    old.execute("CLUSTER", "MEET", "127.0.0.1", new.port, new.bus_port)


def _is_complete(server: RedisServer, node_count: int) -> bool:
    info = read_cluster_info(server)
    return (info["cluster_state"], info["cluster_known_nodes"], info["cluster_size"]) == ("ok", str(node_count), "1")


def read_cluster_info(server: RedisServer) -> dict[str, str]:
    reply = server.execute("CLUSTER", "INFO")
    return reply if isinstance(reply, dict) else dict(line.split(":") for line in reply.decode().split())
