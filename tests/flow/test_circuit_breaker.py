"""Circuit breaker: failing sellers get no orders while others exist; after a pause one probe order tests them."""

from collections import Counter

from gateway.timeouts_and_intervals import OpenDuration
from tests.flow.flow_config import BACKUP_BY_SELLER, OPENAI, RUNAPI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import JobJson, OrderFlow
from tests.flow.order_times import get_order_gaps, get_order_times, run_concurrently
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

OPEN_SECONDS = 0.75
RETRY_AFTER_SECONDS = 2.0
OPEN_DURATION = OpenDuration(initial_seconds=OPEN_SECONDS, max_seconds=8 * OPEN_SECONDS)
SETUP = GatewaySetup(
    timing=change_timing(
        FAST_TIMINGS,
        health={
            "refused": OPEN_DURATION,
            "outage": OPEN_DURATION,
            "unfaithful": OPEN_DURATION,
            # Longer than any test waits: a shorter pause can only come from the seller's Retry-After.
            "default_retry_after_seconds": 60.0,
        },
    )
)


# At the end of every test all circuit breakers are closed.
gateway_and_store = make_gateway_fixture(SETUP)


def order_until_seller_delivers(flow: OrderFlow, seller: str, **params: str) -> list[JobJson]:
    """Runs jobs until this seller delivers one, and returns them. The backup seller delivers the others."""
    jobs: list[JobJson] = []

    def has_delivered() -> bool:
        jobs.append(flow.order_with_failover(seller, **params))
        [image] = jobs[-1]["images"]
        assert image["seller"] in (seller, BACKUP_BY_SELLER[seller])
        return bool(image["seller"] == seller)

    wait_until(has_delivered, f"{seller} delivers again")
    return jobs


def test_breaker_opens_when_the_seller_forbids_an_order(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("status", vendor="openai", status=403, times=1)
    assert get_attempted_sellers(flow.order_with_failover(OPENAI)) == [OPENAI, RUNAPI]
    *others, _ = order_until_seller_delivers(flow, OPENAI)
    assert [get_attempted_sellers(job) for job in others] == [[RUNAPI]] * len(others)
    [gap] = get_order_gaps(get_order_times(flow, OPENAI))
    assert gap >= OPEN_SECONDS


def test_failed_probe_opens_the_breaker_for_longer(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("status", vendor="openai", status=403, times=2)
    order_until_seller_delivers(flow, OPENAI)
    assert flow.order_with_failover(OPENAI)["images"][0]["seller"] == OPENAI
    first, second, _ = get_order_gaps(get_order_times(flow, OPENAI))
    assert first >= OPEN_SECONDS
    assert second >= 2 * OPEN_SECONDS


def make_half_open(flow: OrderFlow) -> None:
    """Opens OpenAI's breaker and waits until it is half-open. Its next order is held."""
    flow.sandbox.inject_fault("status", vendor="openai", status=403, times=1)
    flow.order_with_failover(OPENAI)
    wait_until(flow.gateway.has_only_healthy_sellers, "the breaker is half-open")
    flow.sandbox.hold_orders(vendor="openai")


def test_other_orders_go_elsewhere_while_a_probe_is_in_flight(flow: OrderFlow) -> None:
    make_half_open(flow)
    probe_id = flow.start_job(policy=f"failover-{OPENAI}")
    wait_until(lambda: flow.count_orders(OPENAI) == 2, "the probe order was sent")
    assert [get_attempted_sellers(job) for job in run_concurrently(5, lambda: flow.order_with_failover(OPENAI))] == [
        [RUNAPI]
    ] * 5
    flow.sandbox.release_orders()
    assert get_attempted_sellers(flow.gateway.get_job(probe_id)) == [OPENAI]
    assert get_attempted_sellers(flow.order_with_failover(OPENAI)) == [OPENAI]


def test_half_open_breaker_admits_one_of_many_concurrent_orders(flow: OrderFlow) -> None:
    make_half_open(flow)
    job_ids = run_concurrently(6, lambda: flow.start_job(policy=f"failover-{OPENAI}"))
    wait_until(lambda: len(flow.sandbox.list_charges("runapi")) == 1 + 5, "the other seller delivers the others")
    flow.sandbox.release_orders()
    jobs = [flow.gateway.get_job(job_id) for job_id in job_ids]
    assert Counter(tuple(get_attempted_sellers(job)) for job in jobs) == {(OPENAI,): 1, (RUNAPI,): 5}


def test_five_consecutive_failures_open_the_breaker_of_that_cell_only(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("fail", vendor="runflow", times=5)
    for _ in range(5):
        assert get_attempted_sellers(flow.order_with_failover(RUNFLOW_RUNS)) == [RUNFLOW_RUNS, RUNAPI]
    for params in ({"quality": "medium"}, {"size": "2048x2048"}):
        assert get_attempted_sellers(flow.order_with_failover(RUNFLOW_RUNS, **params)) == [RUNFLOW_RUNS]
    flow.sandbox.inject_fault("fail", vendor="runflow", times=1)
    order_until_seller_delivers(flow, RUNFLOW_RUNS)
    *failure_gaps, open_gap, longer_open_gap = get_order_gaps(get_order_times(flow, RUNFLOW_RUNS, '"low"', "1024"))
    assert len(failure_gaps) == 4
    assert open_gap >= OPEN_SECONDS
    assert longer_open_gap >= 2 * OPEN_SECONDS


def test_four_consecutive_failures_do_not_open_the_breaker(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("fail", vendor="runflow", times=4)
    jobs = [flow.order_with_failover(RUNFLOW_RUNS, quality="high") for _ in range(5)]
    assert [get_attempted_sellers(job) for job in jobs] == [[RUNFLOW_RUNS, RUNAPI]] * 4 + [[RUNFLOW_RUNS]]


def test_breaker_stays_open_for_the_retry_after_time(flow: OrderFlow) -> None:
    headers = {"Retry-After": str(round(RETRY_AFTER_SECONDS))}
    flow.sandbox.inject_fault("status", vendor="openai", status=429, headers=headers, times=1)
    assert get_attempted_sellers(flow.order_with_failover(OPENAI)) == [OPENAI, RUNAPI]
    order_until_seller_delivers(flow, OPENAI)
    [gap] = get_order_gaps(get_order_times(flow, OPENAI))
    assert gap >= RETRY_AFTER_SECONDS


def test_seller_of_too_small_images_loses_orders_until_it_delivers_correctly(
    flow: OrderFlow,
) -> None:
    """The seller is the cheapest, and every probe order is charged, so there are few of them."""
    flow.sandbox.inject_fault("half_size", vendor="openai")
    jobs = [flow.run_job() for _ in range(20)]
    sellers_by_job = [get_attempted_sellers(job) for job in jobs]
    switch_index = sellers_by_job.index([RUNFLOW_RUNS])
    assert 3 <= switch_index <= 6, "deliveries of earlier tests count as well"
    assert flow.count_orders(OPENAI) <= switch_index + 3, "only a few probe orders follow"
    assert all(
        job["warnings"] == ["size_differs: delivered 512x512, requested 1024x1024"] for job in jobs[:switch_index]
    )
    [seller] = [entry for entry in flow.gateway.request_quote(quality="low")["ranked"] if entry["seller"] == OPENAI]
    assert any(reason.startswith("delivered as ordered ") for reason in seller["reasons"])
    labels = {"seller": OPENAI, "model": "gpt-image-2", "operation": "generate", "resolution": "1k", "quality": "low"}
    assert flow.gateway.read_metric("igw_cell_conformance_ratio", **labels) < 0.8
    assert flow.gateway.read_metric("igw_unfaithful_images_total", **labels) >= 3
    flow.sandbox.call_control_route("DELETE", "/faults")

    def is_selected_again() -> bool:
        return get_attempted_sellers(flow.run_job()) == [OPENAI]

    wait_until(is_selected_again, "the seller is selected again")
    assert [get_attempted_sellers(flow.run_job()) for _ in range(3)] == [[OPENAI]] * 3


def test_only_seller_keeps_its_orders_despite_too_small_images(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("half_size", vendor="openai")
    jobs = [flow.order_images(OPENAI, quality="medium") for _ in range(7)]
    assert [get_attempted_sellers(job) for job in jobs] == [[OPENAI]] * 7
    flow.sandbox.call_control_route("DELETE", "/faults")
    assert get_attempted_sellers(flow.order_images(OPENAI, quality="medium")) == [OPENAI]
