"""Cancelled jobs: waiting images are dropped, ordered ones are delivered and charged, at any replica."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY, RUNAPI, GatewaySetup
from tests.flow.gateway_on_store import (
    Replicas,
    make_fixture_beside_replicas,
    make_gateway_fixture,
    make_replicas_fixture,
)
from tests.flow.job_checks import make_unknown_id
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

# Each image is an order, and one order runs at a time. Waiting requests load their job rarely, so that only a
# notification wakes them.
SETUP = GatewaySetup(
    account_limits={"runapi": {"concurrency": 1}},
    timing=change_timing(FAST_TIMINGS, clients={"job_poll_seconds": 60.0}),
    environ={"IGW_PUBLIC_URL": ""},
)
PRICE = 0.06

sqlite_gateway = make_gateway_fixture(SETUP, store="sqlite")
redis_replicas = make_replicas_fixture(SETUP)
gateway_and_store = make_fixture_beside_replicas()


def cancel(gateway: FlowGateway, job_id: str, key: str = API_KEY) -> httpx.Response:
    return gateway.http.post(f"/v1/jobs/{job_id}/cancel", headers={"authorization": f"Bearer {key}"})


def start_held_job(flow: OrderFlow, n: int) -> str:
    """Starts a job of which one order runs until orders are released."""
    flow.sandbox.hold_orders(vendor="runapi")
    job_id = flow.start_job(provider={"only": [RUNAPI]}, n=n)
    wait_until(lambda: flow.count_orders(RUNAPI) == 1, "the first order was sent")
    return job_id


def test_running_order_is_delivered_and_charged_and_the_others_are_dropped(flow: OrderFlow) -> None:
    job_id = start_held_job(flow, n=3)
    answer = cancel(flow.gateway, job_id)
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{job_id}")
    assert int(answer.headers["retry-after"]) >= 1
    cancelled = answer.json()
    assert (cancelled["status"], cancelled["cancel_requested"]) == ("in_progress", True)
    assert (cancelled["max_remaining_cost"], cancelled["usage"]["cost"]) == (PRICE, 0)
    repeated = cancel(flow.gateway, job_id)
    assert (repeated.status_code, repeated.json()["max_remaining_cost"]) == (202, PRICE)
    flow.sandbox.release_orders(vendor="runapi")
    job = flow.gateway.get_job(job_id)
    assert (job["status"], len(job["images"]), len(job["attempts"])) == ("cancelled", 1, 1)
    assert (job["max_remaining_cost"], job["usage"]["cost"]) == (0, PRICE)
    assert len(flow.fetch_images(job)) == 1
    final = cancel(flow.gateway, job_id)
    assert (final.status_code, final.json()["status"]) == (200, "cancelled")
    assert len(flow.sandbox.list_charges()) == 1


def test_job_that_waits_for_a_slot_is_cancelled_at_once_and_costs_nothing(flow: OrderFlow) -> None:
    running_id = start_held_job(flow, n=1)
    waiting_id = flow.start_job(provider={"only": [RUNAPI]}, n=2)
    answer = cancel(flow.gateway, waiting_id)
    job = answer.json()
    assert (answer.status_code, job["status"], job["images"]) == (200, "cancelled", [])
    assert (job["error"]["code"], job["max_remaining_cost"]) == ("cancelled", 0)
    assert job["error"]["message"].endswith("You were not charged.")
    flow.sandbox.release_orders(vendor="runapi")
    assert flow.gateway.get_job(running_id)["status"] == "completed"
    assert flow.count_orders(RUNAPI) == 1


def test_ended_job_cannot_be_cancelled(flow: OrderFlow) -> None:
    job = flow.order_images(RUNAPI)
    answer = cancel(flow.gateway, job["id"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_ended")
    assert "charged" not in answer.text
    assert flow.gateway.get_job(job["id"])["status"] == "completed"


def test_job_of_another_team_cannot_be_cancelled(flow: OrderFlow) -> None:
    job_id = start_held_job(flow, n=1)
    foreign = cancel(flow.gateway, job_id, OTHER_TEAM_KEY)
    unknown = cancel(flow.gateway, make_unknown_id(job_id))
    assert (foreign.status_code, foreign.json()["error"]) == (404, unknown.json()["error"])
    flow.sandbox.release_orders(vendor="runapi")
    assert flow.gateway.get_job(job_id)["status"] == "completed"


def test_job_is_cancelled_at_another_replica_within_a_second(redis_replicas: Replicas, sandbox: RunningSandbox) -> None:
    (first, second), (_, raw) = redis_replicas
    flow, count_before = OrderFlow(first, sandbox, raw), count_cancelled(first, second)
    running_id = start_held_job(flow, n=3)
    waiting_id = flow.start_job(provider={"only": [RUNAPI]}, n=1)
    with ThreadPoolExecutor(1) as pool:
        wait_at_worker = pool.submit(first.get_job, waiting_id)
        started_at = time.monotonic()
        assert cancel(second, waiting_id).status_code == 200
        assert wait_at_worker.result()["status"] == "cancelled"
        assert time.monotonic() - started_at < 1.0
    assert cancel(second, running_id).json()["max_remaining_cost"] == PRICE
    sandbox.release_orders(vendor="runapi")
    job = first.get_job(running_id)
    assert (job["status"], len(job["images"])) == ("cancelled", 1)
    flow.check_ledger_matches_invoice()
    assert flow.count_orders(RUNAPI) == 1
    wait_until(lambda: count_cancelled(first, second) == count_before + 2, "each end is counted once")


def count_cancelled(*gateways: FlowGateway) -> float:
    return sum(gateway.read_metric("igw_jobs_ended_total", outcome="cancelled") for gateway in gateways)
