"""The same five thousand steps on Redis, single and clustered."""

from contextlib import closing

import pytest

from gateway.store.redis.keys import REPLICAS
from tests.store.servers import Server
from tests.store.test_store_machine import did_enough
from tests.store.worlds import redis_world


@pytest.mark.parametrize("kind", ["single", "clustered"])
def test_any_life_on_redis(kind: str, request: pytest.FixtureRequest) -> None:
    """The other replica that has callers lives all the while."""
    server: Server = request.getfixturevalue(f"{kind}_server")
    with closing(server.client()) as client, client.pubsub() as other:
        other.subscribe(f"{REPLICAS}two")
        assert other.get_message(timeout=5.0)
        did_enough(lambda: redis_world(server))
