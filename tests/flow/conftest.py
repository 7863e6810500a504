"""One gateway on each store for each test process, and the books compared after every test."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import vendors
from tests.flow.gateways import Flow, Gateway, running
from tests.store import servers
from tests.store.raw import Raw
from tests.store.raw_redis import RawRedis
from tests.store.raw_sqlite import RawSqlite

# How much faster than they say the vendors call back again.
CALLBACK_PACE = 0.02
Kept = tuple[Gateway, Raw]


@pytest.fixture(scope="session", params=["sqlite", "redis"])
def kept(
    request: pytest.FixtureRequest, sandbox_process: vendors.Vendors, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kept]:
    """A gateway, and the way behind its store's back."""
    folder = tmp_path_factory.mktemp(request.param)
    on_store = _on_redis if request.param == "redis" else _on_sqlite
    yield from on_store(folder, sandbox_process)


def _on_sqlite(folder: Path, sandbox: vendors.Vendors) -> Iterator[Kept]:
    with running(folder, sandbox, {}) as gateway, closing(RawSqlite(folder / "data" / "gateway.db")) as raw:
        yield gateway, raw


def _on_redis(folder: Path, sandbox: vendors.Vendors) -> Iterator[Kept]:
    with servers.single(folder / "redis") as server:
        environ = {
            "REDIS_URL": server.url,
            "IGW_SECRET": "a secret of the flow tests",
            "IGW_ASSETS": str(folder / "images"),
            "IGW_ASSETS_SHARED": "yes",
        }
        with running(folder, sandbox, environ) as gateway, closing(RawRedis(server.client())) as raw:
            yield gateway, raw


@pytest.fixture
def flow(kept: Kept, sandbox: vendors.Vendors) -> Iterator[Flow]:
    """A gateway with nothing to do, a sandbox that has sold nothing; in the end the one's books are the other's."""
    gateway, raw = kept
    sandbox.control("POST", "/switches", {"callback_pace": CALLBACK_PACE})
    try:
        flow = Flow(gateway, sandbox, raw)
        yield flow
        flow.check_books()
    finally:
        sandbox.control("POST", "/switches", {"callback_pace": 1.0})
