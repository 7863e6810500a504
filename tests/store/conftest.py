"""One server of each kind for each test process; tests that end or reconfigure a server start their own."""

from collections.abc import Iterator

import pytest

from tests.store import servers

# What these find wrong is shown as if a test had said it.
pytest.register_assert_rewrite("tests.store.worlds", "tests.store.machine")


@pytest.fixture(scope="session")
def single_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.single(tmp_path_factory.mktemp("single")) as server:
        yield server


@pytest.fixture(scope="session")
def clustered_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.clustered(tmp_path_factory.mktemp("clustered")) as server:
        yield server
