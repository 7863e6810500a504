"""Faults of polls, searches, uploads and downloads: the order itself is never repeated."""

import hmac
import json
import time
from typing import Any

import httpx
import pytest

from gateway.timeouts_and_intervals import FetchTiming
from tests.flow.callback_url_edits import get_callback_url
from tests.flow.flow_config import (
    BACKUP_BY_SELLER,
    OPENAI,
    PRICE_MICROS,
    RUNAPI,
    RUNFLOW_RUN,
    RUNFLOW_RUNS,
    VENDOR_BY_SELLER,
    GatewaySetup,
)
from tests.flow.gateway_on_store import make_fixture_on_each_store
from tests.flow.job_checks import format_fault, get_error_code
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.harness.sample_images import encode_b64_json
from tests.harness.timings import IMPATIENT_TIMINGS
from tests.harness.wait import wait_until

gateway_and_store = make_fixture_on_each_store(GatewaySetup(timing=IMPATIENT_TIMINGS))
EACH_POLLED_SELLER = pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNAPI])
EACH_SELLER_BY_URL = pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNFLOW_RUN, RUNAPI, OPENAI])
TRANSIENT_FAULTS = [
    {"kind": "status", "status": 401},
    {"kind": "status", "status": 404},
    {"kind": "status", "status": 429, "headers": {"Retry-After": "0.05"}},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503},
    {"kind": "html"},
    {"kind": "html", "status": 200},
    {"kind": "reset_before"},
    {"kind": "reset_after"},
    {"kind": "truncate"},
    {"kind": "hang"},
    {"kind": "slow", "seconds": 0.2},
]


def expect_capture_without_failover(flow: OrderFlow, seller: str) -> None:
    assert flow.sum_ledger_by_line() == {(seller, "capture"): PRICE_MICROS[seller]}
    assert flow.count_orders(BACKUP_BY_SELLER[seller]) == 0


def expect_one_captured_order(flow: OrderFlow, seller: str) -> None:
    assert flow.count_orders(seller) == 1
    expect_capture_without_failover(flow, seller)


@pytest.mark.one_in(6)
@EACH_POLLED_SELLER
@pytest.mark.parametrize("fault", TRANSIENT_FAULTS, ids=format_fault)
def test_failing_poll_is_retried(flow: OrderFlow, seller: str, fault: dict[str, Any]) -> None:
    flow.sandbox.inject_fault(vendor=VENDOR_BY_SELLER[seller], route="poll", times=2, **fault)
    job = flow.order_with_failover(seller)
    assert job["status"] == "completed"
    expect_one_captured_order(flow, seller)


@pytest.mark.one_in(4)
@EACH_POLLED_SELLER
@pytest.mark.parametrize(
    "fault",
    [{"kind": "status", "status": 401}, {"kind": "status", "status": 404}, {"kind": "html", "status": 200}],
    ids=format_fault,
)
def test_order_with_permanently_failing_polls_is_suspected(flow: OrderFlow, seller: str, fault: dict[str, Any]) -> None:
    """At the attempt timeout, after the grace time for unknown orders, or at the third invalid response."""
    flow.sandbox.inject_fault(vendor=VENDOR_BY_SELLER[seller], route="poll", **fault)
    job = flow.order_with_failover(seller)
    assert get_error_code(job) == "outcome_unknown"
    assert flow.sum_ledger_by_line() == {(seller, "suspected"): PRICE_MICROS[seller]}
    assert flow.count_orders(BACKUP_BY_SELLER[seller]) == 0


@pytest.mark.one_in(6)
@pytest.mark.parametrize("fault", TRANSIENT_FAULTS, ids=format_fault)
def test_failing_search_is_retried(flow: OrderFlow, fault: dict[str, Any]) -> None:
    flow.sandbox.inject_fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.inject_fault(vendor="runflow", route="search", times=2, **fault)
    job = flow.order_with_failover(RUNFLOW_RUNS)
    assert job["status"] == "completed"
    expect_capture_without_failover(flow, RUNFLOW_RUNS)


def test_order_with_permanently_failing_search_is_suspected(flow: OrderFlow) -> None:
    flow.sandbox.inject_fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.inject_fault("status", vendor="runflow", route="search", status=500)
    job = flow.order_with_failover(RUNFLOW_RUNS)
    assert get_error_code(job) == "outcome_unknown"
    assert flow.sum_ledger_by_line() == {(RUNFLOW_RUNS, "suspected"): PRICE_MICROS[RUNFLOW_RUNS]}


def test_callback_about_another_order_does_not_resolve_a_lost_response(flow: OrderFlow) -> None:
    """A genuine callback at the right URL, about a run with another order's reference."""
    flow.enable_callback_signatures()
    flow.order_images(RUNFLOW_RUNS)
    body = json.dumps({"run_id": flow.sandbox.list_charges("runflow")[0]["id"]}).encode()
    flow.sandbox.inject_fault("no_callback", vendor="runflow")
    flow.sandbox.inject_fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.inject_fault("status", vendor="runflow", route="search", status=500)
    job_id = flow.start_job(provider={"only": [RUNFLOW_RUNS]})
    wait_until(lambda: job_id in get_callback_url(flow, RUNFLOW_RUNS), "the order was sent")
    secret = flow.gateway.callback_secret_path.read_text().encode()
    headers = {"runflow-signature": hmac.new(secret, body, "sha256").hexdigest()}
    assert (
        httpx.post(get_callback_url(flow, RUNFLOW_RUNS), content=body, headers=headers, trust_env=False).status_code
        == 204
    )
    assert flow.gateway.get_job(job_id)["error"]["code"] == "outcome_unknown"
    assert flow.sum_ledger_by_line() == {
        (RUNFLOW_RUNS, "capture"): PRICE_MICROS[RUNFLOW_RUNS],
        (RUNFLOW_RUNS, "suspected"): PRICE_MICROS[RUNFLOW_RUNS],
    }


@pytest.mark.one_in(4)
@pytest.mark.parametrize("first", ["reset_before", "reset_after"])
@pytest.mark.parametrize(
    "second",
    [{"kind": "status", "status": 401}, {"kind": "status", "status": 500}, {"kind": "reset_after"}],
    ids=format_fault,
)
def test_order_resent_with_its_key_survives_further_faults(flow: OrderFlow, first: str, second: dict[str, Any]) -> None:
    flow.sandbox.inject_fault(first, vendor="runapi", times=1)
    flow.sandbox.inject_fault(vendor="runapi", times=1, **second)
    job = flow.order_with_failover(RUNAPI)
    assert job["status"] == "completed"
    assert flow.count_orders(RUNAPI) >= 3
    expect_capture_without_failover(flow, RUNAPI)
    keys = {entry["headers"]["idempotency-key"] for entry in flow.sandbox.list_requests("runapi", "submit")}
    assert len(keys) == 1


# Downloads


def order_with_download_fault(flow: OrderFlow, seller: str, **fault: Any) -> dict[str, Any]:
    """Orders an image whose downloads fail. All sellers deliver by URL."""
    with flow.sandbox.override_switches("openai", image_format="url"):
        flow.sandbox.inject_fault(vendor=VENDOR_BY_SELLER[seller], route="download", **fault)
        return flow.order_with_failover(seller)


@pytest.mark.one_in(6)
@EACH_SELLER_BY_URL
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "html"},
        {"kind": "reset_before"},
        {"kind": "truncate"},
        {"kind": "slow", "seconds": 0.2, "in_chunks": True},
    ],
    ids=format_fault,
)
def test_failing_download_is_retried(flow: OrderFlow, seller: str, fault: dict[str, Any]) -> None:
    job = order_with_download_fault(flow, seller, times=2, **fault)
    assert [image.size for image in flow.fetch_images(job)] == [(1024, 1024)]
    expect_one_captured_order(flow, seller)


@pytest.mark.one_in(6)
@EACH_SELLER_BY_URL
@pytest.mark.parametrize(
    "fault",
    [*({"kind": "status", "status": status} for status in (403, 404, 410)), {"kind": "html", "status": 200}],
    ids=format_fault,
)
def test_image_url_that_looks_dead_is_retried(flow: OrderFlow, seller: str, fault: dict[str, Any]) -> None:
    """The gateway polls for a new URL if the seller has polls; otherwise the failure may be temporary."""
    job = order_with_download_fault(flow, seller, times=2, **fault)
    assert job["status"] == "completed"
    expect_capture_without_failover(flow, seller)


@pytest.mark.thorough
@EACH_SELLER_BY_URL
def test_download_outage_longer_than_the_attempt_timeout_loses_no_image(flow: OrderFlow, seller: str) -> None:
    with flow.sandbox.override_switches("openai", image_format="url"):
        flow.sandbox.inject_fault("status", vendor=VENDOR_BY_SELLER[seller], route="download", status=503)
        job = flow.gateway.post_job(
            {"prompt": PROMPT, "quality": "low", "policy": f"failover-{seller}"}, prefer="wait=0"
        ).json()
        wait_until(
            lambda: len(flow.sandbox.list_requests(VENDOR_BY_SELLER[seller], "download")) > 2 * FetchTiming().max_tries,
            "the download is tried more often than a dead URL would be",
        )
        flow.sandbox.call_control_route("DELETE", "/faults")
    assert flow.gateway.get_job(job["id"])["status"] == "completed"
    expect_capture_without_failover(flow, seller)


@pytest.mark.one_in(4)
@EACH_SELLER_BY_URL
def test_html_page_instead_of_an_image_is_booked_as_orphan(flow: OrderFlow, seller: str) -> None:
    job = order_with_download_fault(flow, seller, kind="html", status=200)
    assert job["status"] == "failed"
    assert job["images"] == []
    assert flow.sum_ledger_by_line() == {(seller, "orphan"): PRICE_MICROS[seller]}
    assert flow.count_orders(BACKUP_BY_SELLER[seller]) == 0


@pytest.mark.one_in(4)
@EACH_SELLER_BY_URL
def test_dead_image_url_is_given_up_after_max_fetch_tries(flow: OrderFlow, seller: str) -> None:
    job = order_with_download_fault(flow, seller, kind="status", status=404)
    assert get_error_code(job) == "paid_not_delivered"
    assert len(flow.sandbox.list_requests(VENDOR_BY_SELLER[seller], "download")) == FetchTiming().max_tries
    assert flow.sum_ledger_by_line() == {(seller, "orphan"): PRICE_MICROS[seller]}


# Uploads


@pytest.mark.one_in(5)
@pytest.mark.parametrize("seller", [RUNFLOW_RUNS, RUNFLOW_RUN, RUNAPI])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 401},
        {"kind": "status", "status": 500},
        {"kind": "html", "status": 200},
        {"kind": "reset_after"},
        {"kind": "truncate"},
    ],
    ids=format_fault,
)
def test_seller_with_failing_upload_is_skipped_without_an_order(
    flow: OrderFlow, seller: str, fault: dict[str, Any]
) -> None:
    flow.sandbox.inject_fault(vendor=VENDOR_BY_SELLER[seller], route="upload", times=1, **fault)
    data = flow.sandbox.fetch_sample_image(512, 512)
    image = encode_b64_json(data + b"\0" * (1 << 20))
    job = flow.order_with_failover(seller, operation="edit", image=image, size="1024x1024")
    assert [delivered["seller"] for delivered in job["images"]] == [BACKUP_BY_SELLER[seller]]
    assert flow.count_orders(seller) == 0
    assert {key for key in flow.sum_ledger_by_line()} == {(BACKUP_BY_SELLER[seller], "capture")}


@pytest.mark.parametrize("n", [1, 2, 4])
def test_job_fails_without_an_order_when_no_seller_accepts_its_input(flow: OrderFlow, n: int) -> None:
    """RunAPI makes one image per order: each image has its own task, which fails on its own."""
    flow.sandbox.inject_fault("status", vendor="runapi", route="upload", status=500)
    image = encode_b64_json(flow.sandbox.fetch_sample_image(512, 512))
    job = flow.order_images(RUNAPI, operation="edit", image=image, n=n, size="1024x1024")
    assert (job["status"], job["attempts"]) == ("failed", [])
    assert len(flow.sandbox.list_requests("runapi", "upload")) == n
    assert (flow.count_orders(RUNAPI), flow.sum_ledger_by_line()) == (0, {})


def test_order_that_turns_failed_after_completion_is_polled_at_normal_pace(flow: OrderFlow) -> None:
    """Its images exist, so the gateway keeps polling, but not in a tight loop."""
    flow.sandbox.inject_fault("status", vendor="runflow", route="download", status=503)
    job = flow.gateway.post_job(
        {"prompt": PROMPT, "quality": "low", "policy": f"failover-{RUNFLOW_RUNS}"}, prefer="wait=0"
    ).json()
    wait_until(lambda: len(flow.sandbox.list_requests("runflow", "download")) > 1, "the download is tried twice")
    failed = json.dumps({"status": "failed", "status_code": "failed", "error": {"message": "x"}})
    flow.sandbox.inject_fault("status", vendor="runflow", route="poll", status=200, body=failed)
    began, before = time.monotonic(), len(flow.sandbox.list_requests("runflow", "poll"))
    time.sleep(1.0)
    polls = len(flow.sandbox.list_requests("runflow", "poll")) - before
    # The shortest poll delay of these tests is 0.05 s.
    assert polls <= 2 * (time.monotonic() - began) / 0.05
    flow.sandbox.call_control_route("DELETE", "/faults")
    assert flow.gateway.get_job(job["id"])["status"] == "completed"
    assert flow.sum_ledger_by_line() == {(RUNFLOW_RUNS, "capture"): PRICE_MICROS[RUNFLOW_RUNS]}
