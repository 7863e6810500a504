"""Clusters of two real nodes."""

import time
from collections.abc import Callable

from tests.store import servers
from tests.store.servers import Server


def joined(old: Server, new: Server) -> None:
    """Both know each other, and the first has all slots."""
    new.cli("CLUSTER", "DELSLOTSRANGE", 0, servers.SLOTS - 1)
    new.cli("CLUSTER", "BUMPEPOCH")
    old.cli("CLUSTER", "BUMPEPOCH")
    old.cli("CLUSTER", "MEET", "127.0.0.1", new.port, new.bus)
    until(lambda: all(_is_whole(server) for server in (old, new)))


def _is_whole(server: Server) -> bool:
    facts = state(server)
    return facts["cluster_state"] == "ok" and facts["cluster_known_nodes"] == "2" and facts["cluster_size"] == "1"


def state(server: Server) -> dict[str, str]:
    said = server.cli("CLUSTER", "INFO")
    return said if isinstance(said, dict) else dict(line.split(":") for line in said.decode().split())


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)
