"""One gateway on each store per test process. After every test the ledger is compared with the sandbox's invoice."""

from collections.abc import Iterator

import pytest

from tests.flow.gateway_on_store import STORE_KINDS, GatewayAndStore, make_gateway_fixture
from tests.flow.order_flow import OrderFlow
from tests.harness import sandbox_runner
from tests.harness.node_sdk import node_program  # noqa: F401  a fixture

# Factor on the delays after which the simulated vendors repeat a callback.
CALLBACK_RETRY_PACE = 0.02


sqlite_gateway = make_gateway_fixture(store="sqlite", scope="session")
redis_gateway = make_gateway_fixture(store="redis", scope="session")


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
