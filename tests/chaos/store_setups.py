"""The store of a test's gateways: a SQLite file, or a Redis that they share."""

from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from gateway.store.base import Store
from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from tests.chaos import chaos_config
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.sandbox_runner import RunningSandbox
from tests.store import redis_servers

STORE_KINDS = ("sqlite", "redis")
LEASE_SECONDS = 2.0


class StoreSetup(Struct, frozen=True):
    """A gateway's folder, configuration and store. `environ` selects the store; `make_store` opens it directly."""

    kind: str
    folder: Path
    config: Path
    environ: dict[str, str]
    make_store: Callable[[], Store]


def create_store_setup(folder: Path, sandbox: RunningSandbox, server: redis_servers.RedisServer | None) -> StoreSetup:
    config = chaos_config.write_config(folder / "config", sandbox.url, LEASE_SECONDS)
    gateway_folder = folder / "gateway"
    if server is None:
        return StoreSetup(
            "sqlite", gateway_folder, config, {}, lambda: SqliteStore(gateway_folder / "data" / "gateway.db")
        )
    environ = make_redis_environ(server.url, folder / "images")
    return StoreSetup("redis", gateway_folder, config, environ, lambda: RedisStore(server.url))
