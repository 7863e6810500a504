"""One gateway on each store per test process. After every test the ledger is compared with the sandbox's invoice."""

from collections.abc import Iterator

import pytest

from tests.flow.gateway_on_store import STORE_KINDS, GatewayAndStore, run_gateway_on_store
from tests.flow.order_flow import OrderFlow
from tests.harness import sandbox_runner
from tests.harness.node_sdk import node_program  # noqa: F401  a fixture

# Factor on the delays after which the simulated vendors repeat a callback.
CALLBACK_RETRY_PACE = 0.02


@pytest.fixture(scope="session")
def sqlite_gateway(
    sandbox_process: sandbox_runner.RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayAndStore]:
    with run_gateway_on_store("sqlite", tmp_path_factory.mktemp("sqlite"), sandbox_process) as running:
        yield running


@pytest.fixture(scope="session")
def redis_gateway(
    sandbox_process: sandbox_runner.RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayAndStore]:
    with run_gateway_on_store("redis", tmp_path_factory.mktemp("redis"), sandbox_process) as running:
        yield running


@pytest.fixture(params=STORE_KINDS)
def gateway_and_store(request: pytest.FixtureRequest) -> GatewayAndStore:
    """A running gateway, and direct access to its store.

    Both keep running: a session fixture with a parameter would restart at each change of it.
    """
    running: GatewayAndStore = request.getfixturevalue(f"{request.param}_gateway")
    return running


@pytest.fixture
def flow(gateway_and_store: GatewayAndStore, sandbox: sandbox_runner.RunningSandbox) -> Iterator[OrderFlow]:
    """An idle gateway and a sandbox without charges. At the end the ledger must match the invoice."""
    gateway, raw = gateway_and_store
    sandbox.call_control_route("POST", "/switches", {"callback_delay_factor": CALLBACK_RETRY_PACE})
    try:
        flow = OrderFlow(gateway, sandbox, raw)
        yield flow
        flow.check_ledger_matches_invoice()
    finally:
        sandbox.call_control_route("POST", "/switches", {"callback_delay_factor": 1.0})
