"""A configuration for each test, and both stores."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.places import KINDS, Stored, place
from tests.store import servers
from tests.vendors import Vendors

# What these find wrong is shown as if a test had said it.
pytest.register_assert_rewrite("tests.chaos.books", "tests.chaos.gateways")


@pytest.fixture(scope="session")
def redis_of_chaos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.single(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_of_chaos: servers.Server) -> servers.Server:
    redis_of_chaos.cli("FLUSHALL")
    return redis_of_chaos


@pytest.fixture(params=KINDS)
def stored(request: pytest.FixtureRequest, tmp_path: Path, sandbox: Vendors) -> Stored:
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    return place(tmp_path, sandbox, server)


@pytest.fixture
def shared(tmp_path: Path, sandbox: Vendors, redis_server: servers.Server) -> Stored:
    """Where replicas work together."""
    return place(tmp_path, sandbox, redis_server)
