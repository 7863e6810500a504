"""At its deadline a job returns the images that exist; what arrives later is booked but not delivered."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.flow.flow_config import OPENAI, PRICE_MICROS, RUNAPI, RUNFLOW_RUN, RUNFLOW_RUNS, SELLERS, GatewaySetup
from tests.flow.gateway_on_store import STORE_KINDS, GatewayAndStore, run_gateway_on_store
from tests.flow.job_checks import get_attempted_sellers, get_status_and_code
from tests.flow.order_flow import OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

DEADLINE_SECONDS, ATTEMPT_TIMEOUT_SECONDS = 2.0, 4.5
SETUP = GatewaySetup(
    job_settings={"deadline_seconds": DEADLINE_SECONDS},
    account_limits={"openai": {"concurrency": 1}},
    timing=change_timing(
        FAST_TIMINGS,
        orders={"min_attempt_timeout_seconds": ATTEMPT_TIMEOUT_SECONDS},
    ),
)
ON_BOTH_STORES = pytest.mark.parametrize("gateway_and_store", STORE_KINDS, indirect=True, scope="module")


@pytest.fixture(scope="module")
def gateway_and_store(
    request: pytest.FixtureRequest, sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayAndStore]:
    store = getattr(request, "param", "sqlite")
    with run_gateway_on_store(store, tmp_path_factory.mktemp("deadlines"), sandbox_process, SETUP) as running:
        yield running


@pytest.mark.thorough
@ON_BOTH_STORES
def test_images_after_the_deadline_are_booked_as_orphans(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders()
    with ThreadPoolExecutor(len(SELLERS)) as pool:
        jobs = list(pool.map(flow.order_images, SELLERS))
    assert [get_status_and_code(job) for job in jobs] == [("expired", "outcome_unknown")] * 4
    assert flow.sum_invoice_by_vendor() == {}
    flow.sandbox.release_orders()
    assert flow.sum_ledger_by_line() == {(seller, "orphan"): PRICE_MICROS[seller] for seller in SELLERS}
    final_jobs = [flow.gateway.get_job(job["id"]) for job in jobs]
    assert [(*get_status_and_code(job), job["images"], job["usage"]["cost"]) for job in final_jobs] == [
        ("expired", "paid_not_delivered", [], 0)
    ] * 4


def test_partly_delivered_job_completes_at_its_deadline(flow: OrderFlow) -> None:
    flow.sandbox.hold_responses("runapi", times=1)
    job = flow.order_images(RUNAPI, n=3)
    flow.sandbox.release_orders()
    assert job["status"] == "completed"
    assert len(flow.fetch_images(job)) == 2
    assert any("2 of 3" in warning for warning in job["warnings"])
    assert flow.sum_ledger_by_line() == {
        (RUNAPI, "capture"): 2 * PRICE_MICROS[RUNAPI],
        (RUNAPI, "orphan"): PRICE_MICROS[RUNAPI],
    }


def test_stuck_order_is_suspected_after_its_own_timeout(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("stuck", vendor="runflow")
    assert get_status_and_code(flow.order_images(RUNFLOW_RUNS)) == ("expired", "outcome_unknown")
    flow.uncharged_suspects["runflow"] = PRICE_MICROS[RUNFLOW_RUNS]
    assert flow.sum_ledger_by_line() == {(RUNFLOW_RUNS, "suspected"): PRICE_MICROS[RUNFLOW_RUNS]}


def test_order_failing_after_the_deadline_costs_nothing_and_has_no_failover(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="runflow")
    flow.sandbox.inject_fault("fail", vendor="runflow")
    job = flow.order_with_failover(RUNFLOW_RUNS)
    assert get_status_and_code(job) == ("expired", "outcome_unknown")
    flow.sandbox.release_orders()
    assert flow.sum_ledger_by_line() == {}
    assert get_status_and_code(flow.gateway.get_job(job["id"])) == ("expired", "deadline_exceeded"), (
        "the failed order was not charged"
    )
    assert flow.count_orders(RUNAPI) == 0


@pytest.mark.parametrize(
    "seller",
    [RUNFLOW_RUN, RUNFLOW_RUNS],
)
def test_images_being_downloaded_at_the_deadline_are_delivered(flow: OrderFlow, seller: str) -> None:
    """They are charged: the gateway downloads them until their URLs expire."""
    flow.sandbox.hold_responses("runflow", route="download")
    job = flow.gateway.get_job(flow.start_job(provider={"only": [seller]}), wait_seconds=0)
    # The time in the job is rounded down.
    wait_until(lambda: time.time() > job["deadline_at"] + 1, "the deadline is over")
    flow.sandbox.call_control_route("DELETE", "/faults")
    flow.sandbox.release_orders()
    job = flow.gateway.get_job(job["id"])
    assert job["status"] == "completed"
    assert job["finished_at"] > job["deadline_at"]
    assert flow.sum_ledger_by_line() == {(seller, "capture"): PRICE_MICROS[seller]}


def test_job_queued_until_its_deadline_is_never_ordered(flow: OrderFlow) -> None:
    flow.sandbox.hold_orders(vendor="openai")
    first_id = flow.start_job(provider={"only": [OPENAI]})
    wait_until(lambda: flow.count_orders(OPENAI) == 1, "the first order reached the seller")
    queued = flow.order_images(OPENAI)
    assert get_status_and_code(queued) == ("expired", "deadline_exceeded")
    assert get_status_and_code(flow.gateway.get_job(first_id)) == ("expired", "outcome_unknown")
    flow.sandbox.release_orders()
    assert get_attempted_sellers(queued) == []
    assert flow.sum_ledger_by_line() == {(OPENAI, "orphan"): PRICE_MICROS[OPENAI]}
    assert flow.count_orders(OPENAI) == 1
