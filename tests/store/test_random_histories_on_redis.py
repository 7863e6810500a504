"""Five thousand random steps of jobs on Redis, single and clustered."""

from contextlib import closing

import pytest

from gateway.store.redis.keys import REPLICA_CHANNEL_PREFIX
from tests.store.random_histories import run_state_machine
from tests.store.redis_servers import RedisServer
from tests.store.store_harness import make_redis_harness


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["single", "clustered"])
def test_random_job_histories_on_redis(kind: str, request: pytest.FixtureRequest) -> None:
    """The other replica with callers is alive all the time."""
    server: RedisServer = request.getfixturevalue(f"{kind}_server")
    with closing(server.make_client()) as client, client.pubsub() as other:
        other.subscribe(f"{REPLICA_CHANNEL_PREFIX}two")
        assert other.get_message(timeout=60.0)
        run_state_machine(lambda: make_redis_harness(server))
