"""A seller that rejects an order with Retry-After is retried after that time if no other seller is left."""

from pathlib import Path

import httpx
import pytest

from tests.flow.flow_config import OPENAI, RUNAPI, RUNFLOW_RUNS, VENDOR_BY_SELLER, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture, run_gateway_on_store
from tests.flow.job_checks import get_faults_by_seller
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.flow.order_times import get_order_gaps, get_order_times
from tests.harness.sandbox_runner import RunningSandbox

DEADLINE_SECONDS = 12.0
LONG_SECONDS = 200
SETUP = GatewaySetup(job_settings={"deadline_seconds": DEADLINE_SECONDS})


gateway_and_store = make_gateway_fixture(SETUP)


def make_seller_busy(flow: OrderFlow, seller: str, seconds: object, orders: int = 1, status: int = 429) -> None:
    headers = {"retry-after": str(seconds)}
    flow.sandbox.inject_fault(
        "status", vendor=VENDOR_BY_SELLER[seller], route="submit", status=status, headers=headers, times=orders
    )


@pytest.mark.one_in(3)
@pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNAPI, OPENAI])
def test_only_seller_is_retried_after_its_retry_after_time(flow: OrderFlow, seller: str) -> None:
    make_seller_busy(flow, seller, 2)
    job = flow.order_images(seller)
    assert (job["status"], get_faults_by_seller(job)) == ("completed", [(seller, "rate_limited"), (seller, None)])
    [gap] = get_order_gaps(get_order_times(flow, seller))
    assert gap >= 2.0
    assert len(flow.sandbox.list_charges()) == 1
    assert flow.gateway.read_metric("igw_failovers_total", from_seller=seller, to_seller=seller) == 0


def test_another_seller_is_tried_before_waiting(flow: OrderFlow) -> None:
    make_seller_busy(flow, RUNAPI, 2)
    job = flow.order_with_failover(RUNAPI)
    assert get_faults_by_seller(job) == [(RUNAPI, "rate_limited"), (RUNFLOW_RUNS, None)]


def test_busy_seller_with_shortest_retry_after_is_retried_first(flow: OrderFlow) -> None:
    make_seller_busy(flow, RUNAPI, 4)
    make_seller_busy(flow, RUNFLOW_RUNS, 1)
    job = flow.order_with_failover(RUNAPI)
    assert get_faults_by_seller(job) == [(RUNAPI, "rate_limited"), (RUNFLOW_RUNS, "rate_limited"), (RUNFLOW_RUNS, None)]
    assert len(flow.sandbox.list_charges()) == 1


def test_retries_at_a_busy_seller_stop_at_the_policy_limit(flow: OrderFlow) -> None:
    make_seller_busy(flow, RUNAPI, 1, orders=10)
    answer = post_generation(flow, RUNAPI)
    assert answer.status_code == 503
    assert flow.count_orders(RUNAPI) == 3
    assert min(get_order_gaps(get_order_times(flow, RUNAPI))) >= 1.0
    assert answer.headers["retry-after"] == "1"
    assert "Retry in 1 second," in answer.json()["error"]["message"]
    assert flow.sandbox.list_charges() == []


def test_each_image_of_a_job_is_retried_and_ordered_once(flow: OrderFlow) -> None:
    """RunAPI makes one image per order: each order is rejected and retried on its own."""
    make_seller_busy(flow, RUNAPI, 1, orders=4)
    job = flow.order_images(RUNAPI, n=4)
    assert (job["status"], len(job["images"])) == ("completed", 4)
    assert len(flow.sandbox.list_charges()) == 4


def test_seller_busy_beyond_the_deadline_is_not_waited_for(sandbox: RunningSandbox, tmp_path: Path) -> None:
    """In a gateway of its own, because its seller stays busy."""
    with run_gateway_on_store("sqlite", tmp_path, sandbox, SETUP) as (gateway, raw_store):
        flow = OrderFlow(gateway, sandbox, raw_store)
        make_seller_busy(flow, OPENAI, LONG_SECONDS)
        answer = post_generation(flow, OPENAI)
        assert answer.status_code == 503
        assert LONG_SECONDS / 2 < int(answer.headers["retry-after"]) <= LONG_SECONDS
        assert answer.headers["x-igw-attempts"] == "1"
        assert "You were not charged" in answer.json()["error"]["message"]
        job = gateway.get_job(answer.headers["x-igw-job-id"])
        assert job["finished_at"] < job["deadline_at"]
        later = post_generation(flow, OPENAI)
        assert (later.status_code, later.headers["x-igw-attempts"]) == (503, "0"), "no order is sent"
        assert LONG_SECONDS / 2 < int(later.headers["retry-after"]) <= LONG_SECONDS
        assert flow.count_orders(OPENAI) == 1
        flow.check_ledger_matches_invoice()


def post_generation(flow: OrderFlow, seller: str) -> httpx.Response:
    return flow.gateway.post_generation({"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}})
