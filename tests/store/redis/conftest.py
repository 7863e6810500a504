import pytest

from tests.store.servers import Server


@pytest.fixture
def emptied(single_server: Server) -> None:
    single_server.cli("FLUSHALL")
