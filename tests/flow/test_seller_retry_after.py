"""A seller that rejects an order with Retry-After is retried after that time if no other seller is left."""

import time
from itertools import pairwise

import httpx
import pytest

from tests.flow.flow_config import OPENAI, RUNAPI, RUNFLOW_RUNS, VENDOR_BY_SELLER, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.job_checks import get_faults_by_seller
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.flow.order_times import get_order_times

DEADLINE_SECONDS = 12.0


gateway_and_store = make_gateway_fixture(GatewaySetup(job_settings={"deadline_seconds": DEADLINE_SECONDS}))


def make_seller_busy(flow: OrderFlow, seller: str, seconds: object, orders: int = 1, status: int = 429) -> None:
    headers = {"retry-after": str(seconds)}
    flow.sandbox.inject_fault(
        "status", vendor=VENDOR_BY_SELLER[seller], route="submit", status=status, headers=headers, times=orders
    )


@pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNAPI, OPENAI])
def test_only_seller_is_retried_after_its_retry_after_time(flow: OrderFlow, seller: str) -> None:
    make_seller_busy(flow, seller, 2)
    job = flow.order_images(seller)
    assert (job["status"], get_faults_by_seller(job)) == ("completed", [(seller, "rate_limited"), (seller, None)])
    first, second = get_order_times(flow, seller)
    assert 2.0 <= second - first < 4.0
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
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(get_order_times(flow, RUNAPI)))
    assert answer.headers["retry-after"] == "1"
    assert "Retry in 1 second," in answer.json()["error"]["message"]
    assert flow.sandbox.list_charges() == []


def test_each_image_of_a_job_is_retried_and_ordered_once(flow: OrderFlow) -> None:
    """RunAPI makes one image per order: each order is rejected and retried on its own."""
    make_seller_busy(flow, RUNAPI, 1, orders=4)
    job = flow.order_images(RUNAPI, n=4)
    assert (job["status"], len(job["images"])) == ("completed", 4)
    assert len(flow.sandbox.list_charges()) == 4


def test_seller_busy_beyond_the_deadline_is_not_waited_for(flow: OrderFlow) -> None:
    """This test must be the last: afterwards OpenAI gets no orders for 40 seconds."""
    make_seller_busy(flow, OPENAI, 40)
    began = time.monotonic()
    answer = post_generation(flow, OPENAI)
    assert time.monotonic() - began < DEADLINE_SECONDS / 2
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "40")
    assert answer.headers["x-igw-attempts"] == "1"
    assert "You were not charged" in answer.json()["error"]["message"]
    later = post_generation(flow, OPENAI)
    assert (later.status_code, later.headers["x-igw-attempts"]) == (503, "0"), "no order is sent"
    assert 30 <= int(later.headers["retry-after"]) <= 40
    assert flow.count_orders(OPENAI) == 1


def post_generation(flow: OrderFlow, seller: str) -> httpx.Response:
    return flow.gateway.post_generation({"prompt": PROMPT, "quality": "low", "provider": {"only": [seller]}})
