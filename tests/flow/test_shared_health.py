"""Two replicas on one Redis share seller health.

Open durations are the product's, so a breaker stays open until the end: each test uses another account or cell.
"""

from collections.abc import Iterator

import pytest

from gateway.timeouts_and_intervals import Timing
from tests.flow.flow_config import OPENAI, RUNAPI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import run_replicas
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.store.raw_store import RawStore

CELL = {"model": "gpt-image-2", "operation": "generate", "resolution": "1k", "quality": "low"}
SETUP = GatewaySetup(
    timing=change_timing(FAST_TIMINGS, health={"refused": Timing().health.refused, "outage": Timing().health.outage})
)
# For the exchange between replicas, which takes about one second.
SYNC_TIMEOUT_SECONDS = 30.0


@pytest.fixture(scope="module")
def replica_pair(
    sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FlowGateway, FlowGateway, RawStore]]:
    with run_replicas(2, tmp_path_factory.mktemp("pair"), sandbox_process, SETUP) as ([first, second], raw):
        yield first, second, raw


@pytest.fixture
def replica_flows(
    replica_pair: tuple[FlowGateway, FlowGateway, RawStore], sandbox: RunningSandbox
) -> Iterator[tuple[OrderFlow, OrderFlow]]:
    first, second, raw = replica_pair
    here, there = (OrderFlow(gateway, sandbox, raw, wait_for_healthy_sellers=False) for gateway in (first, second))
    yield here, there
    second.wait_until_idle()
    here.check_ledger_matches_invoice()


def get_cell_health(gateway: FlowGateway, seller: str) -> dict[tuple[str, ...], bool]:
    """Returns the health of each of the seller's cells, by operation, resolution and quality."""
    cell_health = gateway.read_cell_health(seller=seller, model=CELL["model"])
    return {cell[2:]: is_healthy for cell, is_healthy in cell_health.items()}


def is_unhealthy(gateway: FlowGateway, seller: str) -> bool:
    cell_health = get_cell_health(gateway, seller)
    return bool(cell_health) and not any(cell_health.values())


def count_healthy_cells(gateway: FlowGateway, seller: str, **labels: str) -> int:
    return sum(gateway.read_cell_health(seller=seller, **labels).values())


def test_account_that_forbids_orders_is_avoided_by_all_replicas(
    replica_flows: tuple[OrderFlow, OrderFlow],
) -> None:
    here, there = replica_flows
    before = count_healthy_cells(here.gateway, OPENAI)
    here.sandbox.inject_fault("status", vendor="openai", status=403)
    assert get_attempted_sellers(here.order_with_failover(OPENAI)) == [OPENAI, RUNAPI]
    wait_until(
        lambda: is_unhealthy(there.gateway, OPENAI),
        "the other replica reports the seller as unhealthy",
        timeout_seconds=SYNC_TIMEOUT_SECONDS,
    )
    for flow in (here, there, here, there):
        assert get_attempted_sellers(flow.order_with_failover(OPENAI)) == [RUNAPI]
        assert is_unhealthy(flow.gateway, OPENAI)
        assert count_healthy_cells(flow.gateway, OPENAI) == 0 < before
    assert here.count_orders(OPENAI) == 1


def test_failing_cell_is_avoided_by_all_replicas_and_other_cells_are_used(
    replica_flows: tuple[OrderFlow, OrderFlow],
) -> None:
    here, there = replica_flows
    cell = ("generate", "1k", "low")
    healthy = count_healthy_cells(there.gateway, RUNFLOW_RUNS)
    here.sandbox.inject_fault("fail", vendor="runflow", times=5)
    for _ in range(5):
        assert get_attempted_sellers(here.order_with_failover(RUNFLOW_RUNS)) == [RUNFLOW_RUNS, RUNAPI]
    wait_until(
        lambda: get_cell_health(there.gateway, RUNFLOW_RUNS).get(cell) is False,
        "the other replica reports the seller as unhealthy",
        timeout_seconds=SYNC_TIMEOUT_SECONDS,
    )
    for flow in (here, there):
        assert get_attempted_sellers(flow.order_with_failover(RUNFLOW_RUNS)) == [RUNAPI]
        assert get_attempted_sellers(flow.order_with_failover(RUNFLOW_RUNS, quality="medium")) == [RUNFLOW_RUNS]
        assert [name for name, is_well in get_cell_health(flow.gateway, RUNFLOW_RUNS).items() if not is_well] == [cell]
        assert count_healthy_cells(flow.gateway, RUNFLOW_RUNS, **CELL) == 0
        assert count_healthy_cells(flow.gateway, RUNFLOW_RUNS) == healthy - 1
    assert here.count_orders(RUNFLOW_RUNS) == 5 + 2


def test_success_at_an_unhealthy_only_seller_closes_the_breaker_of_all_replicas(
    replica_flows: tuple[OrderFlow, OrderFlow],
) -> None:
    here, there = replica_flows
    here.sandbox.inject_fault("status", vendor="runapi", status=403)
    job = here.order_images(RUNAPI)
    assert job["error"]["code"] == "sellers_unavailable"
    wait_until(
        lambda: is_unhealthy(there.gateway, RUNAPI),
        "the other replica reports the seller as unhealthy",
        timeout_seconds=SYNC_TIMEOUT_SECONDS,
    )
    assert there.order_images(RUNAPI)["error"]["code"] == "sellers_unavailable"
    here.sandbox.call_control_route("DELETE", "/faults")
    assert there.order_images(RUNAPI)["status"] == "completed"
    wait_until(
        lambda: all(get_cell_health(here.gateway, RUNAPI).values()),
        "the other replica's success closed the breaker here",
        timeout_seconds=SYNC_TIMEOUT_SECONDS,
    )
    for flow in (here, there):
        assert all(get_cell_health(flow.gateway, RUNAPI).values())
        assert get_attempted_sellers(flow.order_with_failover(RUNAPI)) == [RUNAPI]
