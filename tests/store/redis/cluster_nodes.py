"""Clusters of two real nodes."""

from tests.harness.wait import wait_until
from tests.store import redis_servers
from tests.store.redis_servers import RedisServer


def join_nodes(old: RedisServer, new: RedisServer) -> None:
    """Joins the nodes to a Cluster. The first one has all slots."""
    new.execute("CLUSTER", "DELSLOTSRANGE", 0, redis_servers.SLOT_COUNT - 1)
    new.execute("CLUSTER", "BUMPEPOCH")
    old.execute("CLUSTER", "BUMPEPOCH")
    old.execute("CLUSTER", "MEET", "127.0.0.1", new.port, new.bus_port)
    wait_until(lambda: all(_is_complete(server) for server in (old, new)), "both nodes form a Cluster")


def _is_complete(server: RedisServer) -> bool:
    info = read_cluster_info(server)
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "2" and info["cluster_size"] == "1"


def read_cluster_info(server: RedisServer) -> dict[str, str]:
    reply = server.execute("CLUSTER", "INFO")
    return reply if isinstance(reply, dict) else dict(line.split(":") for line in reply.decode().split())
