"""The retry budget limits orders that replace failed ones.

In this gateway the budget's window outlasts all tests, so used retries stay used.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.timeouts_and_intervals import Timing
from tests.flow.flow_config import OPENAI, RUNAPI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import GatewayAndStore, make_gateway_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import JobJson, OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

ALLOWED_RETRIES = 3
MANY_IMAGES = 10
RETRY_BUDGET_TIMEOUT_SECONDS = 2.0
# Extra time for a busy machine.
TOLERANCE_SECONDS = 15.0
SETUP = GatewaySetup(
    timing=change_timing(
        FAST_TIMINGS,
        health={
            "min_retries": ALLOWED_RETRIES,
            "retry_window_seconds": 3_600.0,
            "refused": Timing().health.refused,
        },
    )
)
TimedJob = tuple[JobJson, float]


gateway_and_store = make_gateway_fixture(SETUP)


@pytest.fixture(scope="module")
def exhausting_jobs(gateway_and_store: GatewayAndStore, sandbox_process: RunningSandbox) -> list[TimedJob]:
    """The jobs that used up the budget, and one more that got no retry, each with its duration in seconds."""
    sandbox_process.reset()
    sandbox_process.inject_fault("refuse", vendor="runflow")
    flow = OrderFlow(gateway_and_store[0], sandbox_process, gateway_and_store[1])
    jobs = [run_timed_job(flow, n=MANY_IMAGES if number == 0 else 1) for number in range(ALLOWED_RETRIES + 1)]
    flow.check_ledger_matches_invoice()
    return jobs


def run_timed_job(flow: OrderFlow, **params: Any) -> TimedJob:
    began = time.monotonic()
    return flow.order_with_failover(RUNFLOW_RUNS, **params), time.monotonic() - began


@pytest.fixture
def flow(
    exhausting_jobs: list[TimedJob], gateway_and_store: GatewayAndStore, sandbox: RunningSandbox
) -> Iterator[OrderFlow]:
    """The flow of a gateway whose retry budget is used up."""
    flow = OrderFlow(gateway_and_store[0], sandbox, gateway_and_store[1], wait_for_healthy_sellers=False)
    yield flow
    flow.check_ledger_matches_invoice()


def test_minimum_number_of_retries_is_allowed(exhausting_jobs: list[TimedJob]) -> None:
    for job, _ in exhausting_jobs[1:ALLOWED_RETRIES]:
        assert get_attempted_sellers(job) == [RUNFLOW_RUNS, RUNAPI]
        assert job["status"] == "completed"


def test_all_failover_orders_of_one_job_count_as_one_retry(
    gateway_and_store: GatewayAndStore, exhausting_jobs: list[TimedJob]
) -> None:
    """In the first job three orders are refused. Ten replace them at a seller that makes one image per order."""
    job, _ = exhausting_jobs[0]
    assert get_attempted_sellers(job) == [RUNFLOW_RUNS] * 3 + [RUNAPI] * MANY_IMAGES, job["attempts"]
    assert len(job["images"]) == MANY_IMAGES


def test_part_fails_after_waiting_for_an_exhausted_retry_budget(exhausting_jobs: list[TimedJob]) -> None:
    job, seconds = exhausting_jobs[ALLOWED_RETRIES]
    assert get_attempted_sellers(job) == [RUNFLOW_RUNS]
    assert job["status"] == "failed"
    assert job["error"]["code"] == "order_refused"
    assert RETRY_BUDGET_TIMEOUT_SECONDS <= seconds < RETRY_BUDGET_TIMEOUT_SECONDS + TOLERANCE_SECONDS


def test_first_orders_need_no_retry_budget(flow: OrderFlow) -> None:
    jobs = [run_timed_job(flow) for _ in range(3)]
    assert [get_attempted_sellers(job) for job, _ in jobs] == [[RUNFLOW_RUNS]] * 3
    assert {job["status"] for job, _ in jobs} == {"completed"}
    assert min(seconds for _, seconds in jobs) < RETRY_BUDGET_TIMEOUT_SECONDS


def test_missing_images_are_not_reordered_without_retry_budget(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("partial", vendor="runflow", missing=1, times=1)
    job, _ = run_timed_job(flow, n=4)
    assert get_attempted_sellers(job) == [RUNFLOW_RUNS]
    assert job["status"] == "completed"
    assert [image["index"] for image in job["images"]] == [0, 1, 2]
    assert any("3 of 4" in warning for warning in job["warnings"])


def test_failover_from_a_seller_with_open_breaker_needs_no_retry_budget(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("status", vendor="openai", status=401)
    job = flow.order_with_failover(OPENAI)
    assert get_attempted_sellers(job) == [OPENAI, RUNAPI]
    assert job["status"] == "completed"


def test_failover_after_retry_after_needs_no_retry_budget(flow: OrderFlow) -> None:
    """Several orders may be rejected at the same time; each of them fails over."""
    flow.sandbox.inject_fault("status", vendor="runflow", status=429, headers={"Retry-After": "2"}, times=1)
    job, _ = run_timed_job(flow)
    assert get_attempted_sellers(job) == [RUNFLOW_RUNS, RUNAPI]
    assert job["status"] == "completed"
    # Many orders would raise the budget, which is a tenth of them.
    wait_until(lambda: flow.gateway.has_only_healthy_sellers([RUNFLOW_RUNS]), "the first seller is not paused")
    assert get_attempted_sellers(flow.order_with_failover(RUNFLOW_RUNS)) == [RUNFLOW_RUNS]
