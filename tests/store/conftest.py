"""One server of each kind per test process. Tests that stop or reconfigure a server start their own."""

from collections.abc import Iterator

import pytest

from tests.store import redis_servers

# Failed assertions of these modules are explained like those of tests.
pytest.register_assert_rewrite("tests.store.store_harness", "tests.store.store_state_machine")


@pytest.fixture(scope="session")
def single_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis_servers.RedisServer]:
    with redis_servers.run_single_server(tmp_path_factory.mktemp("single")) as server:
        yield server


@pytest.fixture(scope="session")
def clustered_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis_servers.RedisServer]:
    with redis_servers.run_cluster_server(tmp_path_factory.mktemp("clustered")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis_servers.RedisServer]:
    with redis_servers.run_valkey_server(tmp_path_factory.mktemp("valkey")) as server:
        yield server
