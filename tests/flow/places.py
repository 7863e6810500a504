"""Gateways on each store, and the way behind the store's back."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.flow.configuration import Setup
from tests.flow.gateways import Gateway, running
from tests.store import servers
from tests.store.raw import Raw
from tests.store.raw_redis import RawRedis
from tests.store.raw_sqlite import RawSqlite
from tests.vendors import Vendors

Kept = tuple[Gateway, Raw]
STORES = ("sqlite", "redis")
AS_USUAL = Setup()


@contextmanager
def kept_on(store: str, folder: Path, sandbox: Vendors, setup: Setup = AS_USUAL) -> Iterator[Kept]:
    if store == "redis":
        with replicas(1, folder, sandbox, setup) as ([gateway], raw):
            yield gateway, raw
    else:
        with running(folder, sandbox, {}, setup) as gateway, closing(RawSqlite(folder / "data" / "gateway.db")) as raw:
            yield gateway, raw


@contextmanager
def replicas(
    number: int, folder: Path, sandbox: Vendors, setup: Setup = AS_USUAL
) -> Iterator[tuple[list[Gateway], Raw]]:
    """So many gateways on one Redis."""
    with servers.single(folder / "redis") as server, ExitStack() as started:
        environ = {
            "REDIS_URL": server.url,
            "IGW_SECRET": "a secret of the flow tests",
            "IGW_ASSETS": str(folder / "images"),
            "IGW_ASSETS_SHARED": "yes",
        }
        homes = [folder / f"replica-{one}" for one in range(number)]
        gateways = [started.enter_context(running(home, sandbox, environ, setup)) for home in homes]
        with closing(RawRedis(server.client())) as raw:
            yield gateways, raw
