"""Runs gateways on SQLite or Redis, and opens the store directly for checks."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Literal

import pytest

from tests.flow.flow_config import GatewaySetup
from tests.flow.order_flow import FlowGateway, run_flow_gateway
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.sandbox_runner import RunningSandbox
from tests.store import redis_servers
from tests.store.raw_redis import RawRedis
from tests.store.raw_sqlite import RawSqlite
from tests.store.raw_store import RawStore

GatewayAndStore = tuple[FlowGateway, RawStore]
# The gateways, and the first of them with its store.
Replicas = tuple[list[FlowGateway], GatewayAndStore]
STORE_KINDS = ("sqlite", "redis")
DEFAULT_SETUP = GatewaySetup()


@contextmanager
def run_gateway_on_store(
    store: str, folder: Path, sandbox: RunningSandbox, setup: GatewaySetup = DEFAULT_SETUP
) -> Iterator[GatewayAndStore]:
    if store == "redis":
        with run_replicas(1, folder, sandbox, setup) as ([gateway], raw):
            yield gateway, raw
    else:
        with (
            run_flow_gateway(folder, sandbox, {}, setup) as gateway,
            closing(RawSqlite(folder / "data" / "gateway.db")) as raw,
        ):
            yield gateway, raw


def make_gateway_fixture(
    setup: GatewaySetup = DEFAULT_SETUP, store: str = "sqlite", scope: Literal["module", "session"] = "module"
) -> Callable[..., Iterator[GatewayAndStore]]:
    """Makes the fixture of a gateway with this setup, which the tests of its scope share."""

    @pytest.fixture(scope=scope)
    def gateway_and_store(
        sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[GatewayAndStore]:
        with run_gateway_on_store(store, tmp_path_factory.mktemp(store), sandbox_process, setup) as running:
            yield running

    return gateway_and_store


def make_fixture_on_each_store(setup: GatewaySetup) -> Callable[..., Iterator[GatewayAndStore]]:
    """Makes the fixture `gateway_and_store` of a module whose tests run with this setup on each kind of store."""

    @pytest.fixture(scope="module", params=STORE_KINDS)
    def gateway_and_store(
        request: pytest.FixtureRequest, sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[GatewayAndStore]:
        folder = tmp_path_factory.mktemp(request.param)
        with run_gateway_on_store(request.param, folder, sandbox_process, setup) as running:
            yield running

    return gateway_and_store


@contextmanager
def run_replicas(
    count: int, folder: Path, sandbox: RunningSandbox, setup: GatewaySetup = DEFAULT_SETUP
) -> Iterator[tuple[list[FlowGateway], RawStore]]:
    """Runs `count` gateways on one Redis."""
    with redis_servers.run_single_server(folder / "redis") as server, ExitStack() as exit_stack:
        environ = make_redis_environ(server.url, folder / "images")
        folders = [folder / f"replica-{index}" for index in range(count)]
        gateways = [
            exit_stack.enter_context(run_flow_gateway(gateway_folder, sandbox, environ, setup))
            for gateway_folder in folders
        ]
        with closing(RawRedis(server.make_client())) as raw:
            yield gateways, raw


def make_replicas_fixture(setup: GatewaySetup) -> Callable[..., Iterator[Replicas]]:
    """Makes the fixture `redis_replicas` of a module: two gateways with this setup on one Redis."""

    @pytest.fixture(scope="module")
    def redis_replicas(sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
        with run_replicas(2, tmp_path_factory.mktemp("replicas"), sandbox_process, setup) as (gateways, raw):
            yield gateways, (gateways[0], raw)

    return redis_replicas


def make_fixture_beside_replicas() -> Callable[..., GatewayAndStore]:
    """Makes the fixture `gateway_and_store` of a module that has the fixtures `redis_replicas` and `sqlite_gateway`."""

    @pytest.fixture(params=STORE_KINDS)
    def gateway_and_store(request: pytest.FixtureRequest) -> GatewayAndStore:
        if request.param == "redis":
            running: GatewayAndStore = request.getfixturevalue("redis_replicas")[1]
        else:
            running = request.getfixturevalue("sqlite_gateway")
        return running

    return gateway_and_store
