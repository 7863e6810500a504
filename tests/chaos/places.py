"""Where a test's gateways keep their jobs: a file, or a Redis that they share."""

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from gateway.store.base import Store
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from tests.chaos import configs
from tests.store import servers
from tests.vendors import Vendors

KINDS = ("sqlite", "redis")
LEASE = 2.0
SECRET = "a secret for every replica"


class Stored(Struct, frozen=True):
    """`config` may be changed by the test; `environ` leads gateways to the store; `make` opens it without them."""

    kind: str
    folder: Path
    config: Path
    environ: Mapping[str, str]
    make: Callable[[], Store]


def place(folder: Path, vendors: Vendors, server: servers.Server | None) -> Stored:
    config = configs.write(folder / "config", vendors.url, LEASE)
    home = folder / "gateway"
    if server is None:
        return Stored("sqlite", home, config, {}, lambda: SqliteStore(home / "data" / "gateway.db"))
    environ = {
        "REDIS_URL": server.url,
        "IGW_SECRET": SECRET,
        "IGW_ASSETS": str(folder / "images"),
        "IGW_ASSETS_SHARED": "yes",
    }
    return Stored("redis", home, config, environ, lambda: RedisStore(server.url))
