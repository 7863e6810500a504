"""A reload changes an account's base URL or proxy: running orders are resolved where they were placed."""

from collections.abc import Iterator

import pytest

from tests.flow.account_edits import configure_proxy, move_account
from tests.flow.flow_config import RUNAPI, RUNFLOW_RUN, RUNFLOW_RUNS, VENDOR_BY_SELLER, GatewaySetup
from tests.flow.gateway_on_store import make_gateway_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import JobJson, OrderFlow
from tests.flow.recording_proxy import PROXIED_REQUEST, run_proxy
from tests.harness import sandbox_runner
from tests.harness.sandbox_runner import HELD_SECONDS, RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

SETUP = GatewaySetup(
    account_limits={"runapi": {"concurrency": 1}},
    timing=change_timing(
        FAST_TIMINGS,
        orders={"submit_timeout_seconds": 2.0, "query_timeout_seconds": 0.4},
    ),
)


gateway_and_store = make_gateway_fixture(SETUP)


@pytest.fixture(scope="module")
def other_sandbox_process() -> Iterator[RunningSandbox]:
    with sandbox_runner.run_sandbox() as running:
        yield running


@pytest.fixture
def other_sandbox(other_sandbox_process: RunningSandbox) -> RunningSandbox:
    """A second sandbox with its own URL, without charges."""
    other_sandbox_process.reset()
    return other_sandbox_process


def has_ticket(flow: OrderFlow, job_id: str) -> bool:
    return [attempt["state"] for attempt in flow.gateway.get_job(job_id, wait_seconds=0)["attempts"]] == ["ticketed"]


def wait_for_job(flow: OrderFlow, job_id: str) -> JobJson:
    final_job = flow.gateway.get_job(job_id)
    flow.gateway.wait_until_idle()
    return final_job


@pytest.mark.parametrize(
    ("seller", "fault"),
    [
        pytest.param(RUNAPI, {"kind": "hang", "accepted": True}, id="resent with its key"),
        pytest.param(RUNFLOW_RUNS, {"kind": "hang", "accepted": True}, id="found by search"),
        pytest.param(RUNFLOW_RUNS, {"kind": "slow", "seconds": HELD_SECONDS}, id="answered late"),
        pytest.param(RUNFLOW_RUN, {"kind": "slow", "seconds": HELD_SECONDS}, id="answered late with its image"),
    ],
)
def test_unanswered_order_is_resolved_at_its_original_base_url(
    flow: OrderFlow, other_sandbox: RunningSandbox, seller: str, fault: dict[str, object]
) -> None:
    flow.sandbox.inject_fault(vendor=VENDOR_BY_SELLER[seller], route="submit", times=1, **fault)  # type: ignore[arg-type]
    job_id = flow.start_job(provider={"only": [seller]})
    wait_until(lambda: flow.count_orders(seller) == 1, "the order reached the seller")
    with move_account(flow, VENDOR_BY_SELLER[seller], other_sandbox):
        flow.sandbox.release_orders()
        job = wait_for_job(flow, job_id)
    assert (job["status"], get_attempted_sellers(job)) == ("completed", [seller])
    assert [len(sandbox.list_charges()) for sandbox in (flow.sandbox, other_sandbox)] == [1, 0]
    assert other_sandbox.list_requests(VENDOR_BY_SELLER[seller]) == []


@pytest.mark.parametrize("seller", [RUNAPI, RUNFLOW_RUNS])
def test_order_in_progress_is_polled_at_its_original_base_url(
    flow: OrderFlow, other_sandbox: RunningSandbox, seller: str
) -> None:
    flow.sandbox.hold_orders()
    job_id = flow.start_job(provider={"only": [seller]})
    wait_until(lambda: has_ticket(flow, job_id), "the job has a ticket")
    with move_account(flow, VENDOR_BY_SELLER[seller], other_sandbox):
        flow.sandbox.release_orders()
        assert wait_for_job(flow, job_id)["status"] == "completed"
    assert other_sandbox.list_requests(VENDOR_BY_SELLER[seller]) == []


def start_job_with_queued_order(flow: OrderFlow) -> str:
    """Starts a job with two orders at a seller that accepts one at a time. The first one has a ticket and is held."""
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(policy=f"failover-{RUNAPI}", n=2)
    wait_until(lambda: has_ticket(flow, job_id), "the first order has a ticket")
    return job_id


def test_queued_order_of_a_moved_account_goes_to_another_seller(flow: OrderFlow, other_sandbox: RunningSandbox) -> None:
    """Its planned account no longer exists. No new order goes to the old base URL, and no old order to the new one."""
    job_id = start_job_with_queued_order(flow)
    with move_account(flow, "runapi", other_sandbox):
        flow.sandbox.release_orders()
        assert get_attempted_sellers(wait_for_job(flow, job_id)) == [RUNAPI, RUNFLOW_RUNS]
    assert flow.count_orders(RUNAPI) == 1
    assert other_sandbox.list_requests("runapi") == []


def test_queued_orders_and_polls_use_the_reloaded_proxy(flow: OrderFlow) -> None:
    job_id = start_job_with_queued_order(flow)
    with run_proxy() as (url, traffic), configure_proxy(flow, "runapi", url):
        wait_until(lambda: b"GET " in traffic, "the first order is polled")
        flow.sandbox.release_orders()
        assert get_attempted_sellers(wait_for_job(flow, job_id)) == [RUNAPI, RUNAPI]
    methods = [method.decode() for method in PROXIED_REQUEST.findall(bytes(traffic))]
    # The second order, and polls of the first before it.
    assert methods.count("POST") == 1
    assert methods.index("POST") > 0


def test_new_jobs_use_the_new_base_url(flow: OrderFlow, other_sandbox: RunningSandbox) -> None:
    with move_account(flow, "runapi", other_sandbox):
        assert flow.order_images(RUNAPI)["status"] == "completed"
        flow.gateway.wait_until_idle()
    assert flow.count_orders(RUNAPI) == 0
    # Charged by the other sandbox: the ledger is compared with the invoice of the first.
    flow.duplicate_charges["runapi"] = -sum(line["usd_micros"] for line in other_sandbox.list_charges())
