"""A store, SQLite or Redis, and a configuration for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.store_setups import STORE_KINDS, StoreSetup, create_store_setup
from tests.harness.sandbox_runner import RunningSandbox
from tests.store import redis_servers


@pytest.fixture(scope="session")
def chaos_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis_servers.RedisServer]:
    with redis_servers.run_single_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(chaos_redis: redis_servers.RedisServer) -> redis_servers.RedisServer:
    chaos_redis.execute("FLUSHALL")
    chaos_redis.execute("SCRIPT", "FLUSH")
    return chaos_redis


@pytest.fixture(params=STORE_KINDS)
def store_setup(request: pytest.FixtureRequest, tmp_path: Path, sandbox: RunningSandbox) -> StoreSetup:
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    return create_store_setup(tmp_path, sandbox, server)


@pytest.fixture
def redis_setup(tmp_path: Path, sandbox: RunningSandbox, redis_server: redis_servers.RedisServer) -> StoreSetup:
    """A Redis that replicas share."""
    return create_store_setup(tmp_path, sandbox, redis_server)
