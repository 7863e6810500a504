"""Orders never exceed an account's limits: they queue, or go to another seller after the slot timeout."""

from collections import Counter

from tests.flow.flow_config import OPENAI, RUNAPI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import OrderFlow
from tests.flow.order_times import CLOCK_TOLERANCE_SECONDS, get_order_times, run_concurrently
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

CONCURRENCY, PER_MINUTE = 2, 3
RATE_WINDOW_SECONDS = 2.0
SLOT_TIMEOUT_SECONDS = 0.5
SETUP = GatewaySetup(
    account_limits={"runapi": {"concurrency": CONCURRENCY}, "openai": {"per_minute": PER_MINUTE}},
    timing=change_timing(
        FAST_TIMINGS,
        orders={"slot_timeout_seconds": SLOT_TIMEOUT_SECONDS},
        health={"rate_window_seconds": RATE_WINDOW_SECONDS},
    ),
)


gateway_and_store = make_gateway_fixture(SETUP)


def get_max_concurrent_orders(flow: OrderFlow, seller: str) -> int:
    """Computed from the sandbox's records: an order is in progress from its arrival until its charge."""
    starts = [(at, 1) for at in get_order_times(flow, seller)]
    ends = [(charge["at"], -1) for charge in flow.sandbox.list_charges(seller)]
    maximum = current = 0
    for _, step in sorted(starts + ends):
        current += step
        maximum = max(maximum, current)
    return maximum


def test_orders_queue_at_the_only_seller_within_its_concurrency_limit(flow: OrderFlow) -> None:
    flow.sandbox.set_latency(0.4, vendor="runapi")
    jobs = run_concurrently(8, lambda: flow.order_images(RUNAPI))
    assert [get_attempted_sellers(job) for job in jobs] == [[RUNAPI]] * 8
    assert {job["status"] for job in jobs} == {"completed"}
    assert get_max_concurrent_orders(flow, RUNAPI) == CONCURRENCY


def test_orders_of_one_job_queue_within_the_concurrency_limit(flow: OrderFlow) -> None:
    flow.sandbox.set_latency(0.4, vendor="runapi")
    job = flow.order_images(RUNAPI, n=5)
    assert [image["index"] for image in job["images"]] == [0, 1, 2, 3, 4]
    assert get_max_concurrent_orders(flow, RUNAPI) == CONCURRENCY


def test_order_queued_longer_than_slot_timeout_goes_to_next_seller(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(policy=f"failover-{RUNAPI}", n=3)
    wait_until(lambda: flow.count_orders(RUNFLOW_RUNS) == 1, "the third order went to the next seller")
    flow.sandbox.release_orders(vendor="runapi")
    job = flow.gateway.get_job(job_id)
    assert Counter(image["seller"] for image in job["images"]) == {RUNAPI: CONCURRENCY, RUNFLOW_RUNS: 1}
    [failover_time] = get_order_times(flow, RUNFLOW_RUNS)
    assert failover_time - min(get_order_times(flow, RUNAPI)) >= SLOT_TIMEOUT_SECONDS - CLOCK_TOLERANCE_SECONDS
    assert get_max_concurrent_orders(flow, RUNAPI) == CONCURRENCY


def test_job_that_arrives_at_a_full_seller_goes_to_next_seller_at_once(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runapi")
    blocking_job_id = flow.start_job(policy=f"failover-{RUNAPI}", n=CONCURRENCY)
    wait_until(lambda: flow.count_orders(RUNAPI) == CONCURRENCY, "the seller has as many orders as its limit allows")
    assert get_attempted_sellers(flow.order_with_failover(RUNAPI)) == [RUNFLOW_RUNS]
    flow.sandbox.release_orders(vendor="runapi")
    assert get_attempted_sellers(flow.gateway.get_job(blocking_job_id)) == [RUNAPI] * CONCURRENCY


def test_orders_per_minute_stay_within_the_rate_limit(flow: OrderFlow) -> None:
    """Arrivals may be closer together than the window: the delay from send to arrival differs between orders."""
    jobs = run_concurrently(2 * PER_MINUTE + 1, lambda: flow.order_images(OPENAI))
    assert {job["status"] for job in jobs} == {"completed"}
    order_times = get_order_times(flow, OPENAI)
    assert len(order_times) == len(jobs)
    for first in range(len(order_times) - PER_MINUTE):
        assert order_times[first + PER_MINUTE] - order_times[first] > RATE_WINDOW_SECONDS / 2
