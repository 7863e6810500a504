"""`/readyz` fails exactly as long as the store accepts no writes."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.chaos.persistent_clients import post_job
from tests.chaos.store_setups import StoreSetup
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.wait import wait_until
from tests.store.redis_servers import RedisServer

# Smaller than every file of the database, so that every write fails.
MAX_FILE_BYTES = 4_096


@contextmanager
def block_file_growth(gateway: GatewayProcess) -> Iterator[None]:
    before = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, before[1]))
    try:
        yield
    finally:
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, before)


@contextmanager
def stop_server(server: RedisServer) -> Iterator[None]:
    server.kill()
    try:
        yield
    finally:
        server.start()


@pytest.fixture
def break_store(store_setup: StoreSetup, request: pytest.FixtureRequest) -> Callable[[GatewayProcess], Any]:
    """A context manager during which the store accepts no writes."""
    if store_setup.kind == "sqlite":
        return block_file_growth
    server = request.getfixturevalue("redis_server")
    return lambda _: stop_server(server)


@pytest.mark.thorough
def test_readiness_reports_a_store_without_writes_until_it_recovers(
    store_setup: StoreSetup, break_store: Callable[[GatewayProcess], Any]
) -> None:
    with (
        run_replica(store_setup.folder, store_setup.config, store_setup.environ) as gateway,
        gateway.make_client() as client,
    ):
        assert _get_store_state(gateway, 200)["takes_writes"] is True
        with break_store(gateway):
            store_state = wait_until(lambda: _get_store_state(gateway, 503), "/readyz reports not ready")
            assert (store_state["takes_writes"], store_state["kind"]) == (False, store_setup.kind)
            assert store_state["seconds_since_write"] >= 5
            assert client.get("/livez").status_code == 200
            assert gateway.read_metric("igw_store_takes_writes") == 0
            assert post_job(client, "refused", "runapi").status_code == 503
        wait_until(lambda: _get_store_state(gateway, 200), "/readyz reports ready again")
        assert post_job(client, "taken", "runapi", 30).status_code == 200


def _get_store_state(gateway: GatewayProcess, status: int) -> Any:
    """Returns the state of the store in `/readyz`, or None if the response has another status."""
    answer = gateway.get("/readyz")
    readiness = answer.json()
    assert readiness["ready"] is (answer.status_code == 200)
    return readiness["store"] if answer.status_code == status else None
