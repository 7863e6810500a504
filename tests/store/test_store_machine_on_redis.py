"""The same five thousand steps on Redis, single and clustered."""

import pytest

from tests.store.servers import Server
from tests.store.test_store_machine import did_enough
from tests.store.worlds import redis_world


@pytest.mark.parametrize("kind", ["single", "clustered"])
def test_any_life_on_redis(kind: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(f"{kind}_server")
    did_enough(lambda: redis_world(server))
