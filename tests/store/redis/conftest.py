import pytest

from tests.store.redis_servers import RedisServer


@pytest.fixture
def empty_redis(single_server: RedisServer) -> None:
    single_server.execute("FLUSHALL")
