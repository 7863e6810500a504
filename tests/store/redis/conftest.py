import pytest

from tests.store.redis_servers import RedisServer


@pytest.fixture
def empty_redis(single_server: RedisServer) -> None:
    """Leaves no data and no scripts on the server, as after its first start."""
    single_server.execute("FLUSHALL")
    single_server.execute("SCRIPT", "FLUSH")
