"""Callbacks that are early, late, duplicated, forged or missing: the order's state comes from polling only."""

import json

import httpx
import pytest

from tests.flow.callback_url_edits import get_callback_url
from tests.flow.flow_config import PRICE_MICROS, RUNAPI, RUNFLOW_RUNS, SLOW_MODEL, VENDOR_BY_SELLER
from tests.flow.job_checks import expect_one_capture
from tests.flow.order_flow import JobJson, OrderFlow
from tests.harness.signed_callbacks import sign_runapi_callback
from tests.harness.wait import wait_until

EACH_CALLING_SELLER = pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNAPI])


def order_from_slow_model(flow: OrderFlow, seller: str) -> JobJson:
    """Orders from a model that is polled later than the job is waited for, unless a callback arrives."""
    if seller == RUNFLOW_RUNS:
        flow.enable_callback_signatures()
    job = flow.order_images(seller, model=SLOW_MODEL)
    assert job["finished_at"], "the callback caused no poll"
    return job


def post_runapi_callback(url: str, body: bytes) -> int:
    """Sends a callback signed like RunAPI's, and returns the status."""
    return httpx.post(url, content=body, headers=sign_runapi_callback(body), trust_env=False).status_code


@EACH_CALLING_SELLER
def test_callback_triggers_an_immediate_poll(flow: OrderFlow, seller: str) -> None:
    flow.sandbox.set_latency(0.3)
    job = order_from_slow_model(flow, seller)
    assert len(flow.sandbox.list_requests(VENDOR_BY_SELLER[seller], "poll")) == 1
    expect_one_capture(flow, seller, job)


@EACH_CALLING_SELLER
def test_callback_before_the_order_response_is_used(flow: OrderFlow, seller: str) -> None:
    flow.sandbox.inject_fault("early_callback", vendor=VENDOR_BY_SELLER[seller])
    expect_one_capture(flow, seller, order_from_slow_model(flow, seller))


@EACH_CALLING_SELLER
def test_duplicate_callbacks_deliver_once(flow: OrderFlow, seller: str) -> None:
    accepted = flow.count_callback_responses(204)
    flow.sandbox.inject_fault("duplicate_callback", vendor=VENDOR_BY_SELLER[seller], copies=5)
    expect_one_capture(flow, seller, order_from_slow_model(flow, seller))
    wait_until(lambda: flow.count_callback_responses(204) == accepted + 5, "all callbacks are answered")


@EACH_CALLING_SELLER
def test_forged_callback_is_rejected_and_the_genuine_one_accepted(flow: OrderFlow, seller: str) -> None:
    rejected = flow.count_callback_responses(401)
    flow.sandbox.inject_fault("forged_callback", vendor=VENDOR_BY_SELLER[seller])
    job = order_from_slow_model(flow, seller)
    assert flow.count_callback_responses(401) > rejected
    expect_one_capture(flow, seller, job)


@EACH_CALLING_SELLER
def test_forged_callback_about_success_does_not_hide_a_failed_order(flow: OrderFlow, seller: str) -> None:
    """The order failed, and a forged callback reports success."""
    flow.sandbox.inject_fault("forged_callback", vendor=VENDOR_BY_SELLER[seller])
    flow.sandbox.inject_fault("fail", vendor=VENDOR_BY_SELLER[seller])
    job = order_from_slow_model(flow, seller)
    assert job["status"] == "failed"
    assert flow.sum_ledger_by_line() == {}


@EACH_CALLING_SELLER
def test_order_completes_by_polling_without_callbacks(flow: OrderFlow, seller: str) -> None:
    accepted = flow.count_callback_responses(204)
    flow.sandbox.inject_fault("no_callback", vendor=VENDOR_BY_SELLER[seller])
    job = flow.order_images(seller)
    expect_one_capture(flow, seller, job)
    assert flow.count_callback_responses(204) == accepted


def test_unsigned_callbacks_are_rejected_and_the_order_still_completes(flow: OrderFlow) -> None:
    """Without a callback secret Runflow does not sign."""
    rejected = flow.count_callback_responses(401)
    flow.sandbox.inject_fault("early_callback", vendor="runflow")
    job = flow.order_images(RUNFLOW_RUNS)
    expect_one_capture(flow, RUNFLOW_RUNS, job)
    assert flow.count_callback_responses(401) > rejected


def test_callback_after_completion_changes_nothing(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("no_callback", vendor="runapi")
    job = flow.order_images(RUNAPI)
    booked = flow.sum_ledger_by_line()
    body = json.dumps({"id": "task-of-nobody", "status": "failed"}).encode()
    assert [post_runapi_callback(get_callback_url(flow, RUNAPI), body) for _ in range(3)] == [204] * 3
    # Image URLs are signed again for each response.
    current_job = flow.gateway.get_job(job["id"])
    assert current_job == job | {"images": current_job["images"], "expires_at": current_job["expires_at"]}
    assert flow.sum_ledger_by_line() == booked == {(RUNAPI, "capture"): PRICE_MICROS[RUNAPI]}


def test_callback_identifies_an_order_with_lost_response_when_search_fails(flow: OrderFlow) -> None:
    """The order's response is lost and the search fails: only the callback names the run."""
    flow.sandbox.inject_fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.inject_fault("status", vendor="runflow", route="search", status=500)
    flow.sandbox.set_latency(0.3)
    expect_one_capture(flow, RUNFLOW_RUNS, order_from_slow_model(flow, RUNFLOW_RUNS))


def test_early_callback_identifies_an_order_with_lost_response(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("early_callback", vendor="runflow")
    flow.sandbox.inject_fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.inject_fault("status", vendor="runflow", route="search", status=500)
    expect_one_capture(flow, RUNFLOW_RUNS, order_from_slow_model(flow, RUNFLOW_RUNS))
