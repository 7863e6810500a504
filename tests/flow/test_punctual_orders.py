"""A policy of rank deadline orders from the cheapest seller that is measured to be ready in time."""

from concurrent.futures import ThreadPoolExecutor

from gateway.health.rolling_stats import MIN_LATENCY_SAMPLES
from tests.flow.flow_config import OPENAI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import OrderFlow

MAX_SECONDS, SLOW_SECONDS = 1.0, 2.0
# With the fast first order, nine in ten orders are then slow ones.
ORDER_COUNT = 2 * MIN_LATENCY_SAMPLES
POLICY = {"rank": "deadline", "max_seconds": MAX_SECONDS, "sellers": [OPENAI, RUNFLOW_RUNS]}
gateway_and_store = make_gateway_fixture(GatewaySetup(policies={"punctual": POLICY}))


def test_seller_that_is_measured_to_be_late_is_not_the_first_any_more(flow: OrderFlow) -> None:
    """The other seller has too few orders to be measured, so a slow machine cannot make it late, too."""
    assert get_attempted_sellers(flow.run_job(policy="punctual")) == [OPENAI]
    flow.sandbox.set_latency(SLOW_SECONDS, vendor="openai")
    with ThreadPoolExecutor(ORDER_COUNT) as pool:
        jobs = list(pool.map(lambda n: flow.order_images(OPENAI, user=f"user-{n}"), range(ORDER_COUNT)))
    assert {job["status"] for job in jobs} == {"completed"}
    ranked = flow.gateway.request_quote(quality="low", policy="punctual")["ranked"]
    assert [entry["seller"] for entry in ranked] == [RUNFLOW_RUNS, OPENAI]
    assert ranked[1]["reasons"][1].startswith(f"measured p90 of {ranked[1]['p90']:g} s exceeds the deadline of 1 s")
    assert get_attempted_sellers(flow.run_job(policy="punctual", n=2)) == [RUNFLOW_RUNS]


def test_job_is_ordered_with_a_warning_if_no_seller_is_in_time(flow: OrderFlow) -> None:
    job = flow.run_job(policy="punctual", max_seconds=0.01)
    assert job["status"] == "completed"
    assert job["warnings"][0].startswith("deadline_unlikely: no available seller is ready within 0.01 s")
