"""An order is on its way, and asking about it, looking for it or fetching its pictures fails: no order is repeated."""

import json
import time
from base64 import b64encode
from typing import Any

import pytest

from gateway.engine.delivering import TRIES
from tests.flow.configuration import BACKUP, SELLERS, VENDOR
from tests.flow.gateways import PROMPT, Flow
from tests.flow.test_orders_under_fault import PRICE, name_of, told

RUNS, RUN, RUNAPI, OPENAI = SELLERS
ASKED = pytest.mark.parametrize("seller", [RUNS, RUNAPI])
BY_LINK = pytest.mark.parametrize("seller", [RUNS, RUN, RUNAPI, OPENAI])
PASSING = [
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


def expect_one_capture(flow: Flow, seller: str) -> None:
    assert flow.booked() == {(seller, "capture"): PRICE[seller]}
    assert flow.orders(BACKUP[seller]) == 0


@ASKED
@pytest.mark.parametrize("fault", PASSING, ids=name_of)
def test_a_question_that_fails_for_a_while_is_asked_again(flow: Flow, seller: str, fault: dict[str, Any]) -> None:
    flow.sandbox.fault(vendor=VENDOR[seller], route="poll", times=2, **fault)
    job = flow.buy_first(seller)
    assert job["status"] == "completed"
    assert flow.orders(seller) == 1
    expect_one_capture(flow, seller)


@ASKED
@pytest.mark.parametrize(
    "fault",
    [{"kind": "status", "status": 401}, {"kind": "status", "status": 404}, {"kind": "html", "status": 200}],
    ids=name_of,
)
def test_an_order_that_cannot_be_asked_about_any_more_is_suspected(
    flow: Flow, seller: str, fault: dict[str, Any]
) -> None:
    """By the attempt's deadline, by the time for which a new order may be unknown, by the third answer of nonsense."""
    flow.sandbox.fault(vendor=VENDOR[seller], route="poll", **fault)
    job = flow.buy_first(seller)
    assert told(job) == "outcome_unknown"
    assert flow.booked() == {(seller, "suspected"): PRICE[seller]}
    assert flow.orders(BACKUP[seller]) == 0


@pytest.mark.parametrize("fault", PASSING, ids=name_of)
def test_a_search_that_fails_for_a_while_is_repeated(flow: Flow, fault: dict[str, Any]) -> None:
    flow.sandbox.fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.fault(vendor="runflow", route="find", times=2, **fault)
    job = flow.buy_first(RUNS)
    assert job["status"] == "completed"
    expect_one_capture(flow, RUNS)


def test_an_order_that_cannot_be_searched_for_is_suspected(flow: Flow) -> None:
    flow.sandbox.fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.fault("status", vendor="runflow", route="find", status=500)
    job = flow.buy_first(RUNS)
    assert told(job) == "outcome_unknown"
    assert flow.booked() == {(RUNS, "suspected"): PRICE[RUNS]}


@pytest.mark.parametrize("first", ["reset_before", "reset_after"])
@pytest.mark.parametrize(
    "second",
    [{"kind": "status", "status": 401}, {"kind": "status", "status": 500}, {"kind": "reset_after"}],
    ids=name_of,
)
def test_an_order_sent_again_by_its_key_may_meet_faults_too(flow: Flow, first: str, second: dict[str, Any]) -> None:
    flow.sandbox.fault(first, vendor="runapi", times=1)
    flow.sandbox.fault(vendor="runapi", times=1, **second)
    job = flow.buy_first(RUNAPI)
    assert job["status"] == "completed"
    assert flow.orders(RUNAPI) >= 3
    expect_one_capture(flow, RUNAPI)
    keys = {entry["headers"]["idempotency-key"] for entry in flow.sandbox.requests("runapi", "submit")}
    assert len(keys) == 1


# Pictures


@BY_LINK
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "html"},
        {"kind": "reset_before"},
        {"kind": "truncate"},
        {"kind": "slow", "seconds": 0.2, "drip": True},
    ],
    ids=name_of,
)
def test_a_download_that_fails_for_a_while_is_repeated(flow: Flow, seller: str, fault: dict[str, Any]) -> None:
    with flow.sandbox.switched("openai", delivers="url"):
        flow.sandbox.fault(vendor=VENDOR[seller], route="download", times=2, **fault)
        job = flow.buy_first(seller)
    assert [one.size for one in flow.pictures(job)] == [(1024, 1024)]
    assert flow.orders(seller) == 1
    expect_one_capture(flow, seller)


@BY_LINK
@pytest.mark.parametrize(
    "fault",
    [*({"kind": "status", "status": status} for status in (403, 404, 410)), {"kind": "html", "status": 200}],
    ids=name_of,
)
def test_a_link_that_seems_dead_is_tried_again(flow: Flow, seller: str, fault: dict[str, Any]) -> None:
    """Asked for anew where that is possible; where it is not, it may be the host that has stumbled."""
    with flow.sandbox.switched("openai", delivers="url"):
        flow.sandbox.fault(vendor=VENDOR[seller], route="download", times=2, **fault)
        job = flow.buy_first(seller)
    assert job["status"] == "completed"
    expect_one_capture(flow, seller)


@BY_LINK
def test_a_host_that_is_down_for_longer_than_an_order_may_take_loses_nothing(flow: Flow, seller: str) -> None:
    with flow.sandbox.switched("openai", delivers="url"):
        flow.sandbox.fault("status", vendor=VENDOR[seller], route="download", status=503)
        job = flow.gateway.ask(
            {"prompt": PROMPT, "quality": "low", "policy": f"first-{seller}"}, prefer="wait=0"
        ).json()
        flow.gateway.until("it is tried", lambda: len(flow.sandbox.requests(VENDOR[seller], "download")) > 2 * TRIES)
        flow.sandbox.control("DELETE", "/faults")
    assert flow.gateway.job(job["id"])["status"] == "completed"
    expect_one_capture(flow, seller)


@BY_LINK
def test_a_page_instead_of_a_picture_is_no_picture(flow: Flow, seller: str) -> None:
    with flow.sandbox.switched("openai", delivers="url"):
        flow.sandbox.fault("html", vendor=VENDOR[seller], route="download", status=200)
        job = flow.buy_first(seller)
    assert job["status"] == "failed"
    assert job["images"] == []
    assert flow.booked() == {(seller, "orphan"): PRICE[seller]}
    assert flow.orders(BACKUP[seller]) == 0


@BY_LINK
def test_a_link_that_stays_dead_is_believed_to_be_after_a_few_tries(flow: Flow, seller: str) -> None:
    with flow.sandbox.switched("openai", delivers="url"):
        flow.sandbox.fault("status", vendor=VENDOR[seller], route="download", status=404)
        job = flow.buy_first(seller)
    assert told(job) == "paid_not_delivered"
    assert len(flow.sandbox.requests(VENDOR[seller], "download")) == TRIES
    assert flow.booked() == {(seller, "orphan"): PRICE[seller]}


# Inputs


@pytest.mark.parametrize("seller", [RUNS, RUN, RUNAPI])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 401},
        {"kind": "status", "status": 500},
        {"kind": "html", "status": 200},
        {"kind": "reset_after"},
        {"kind": "truncate"},
    ],
    ids=name_of,
)
def test_a_seller_that_takes_no_uploads_is_passed_over_and_nothing_was_ordered_there(
    flow: Flow, seller: str, fault: dict[str, Any]
) -> None:
    flow.sandbox.fault(vendor=VENDOR[seller], route="upload", times=1, **fault)
    data = flow.sandbox.sample(512, 512)
    image = {"b64_json": b64encode(data + b"\0" * (1 << 20)).decode()}
    job = flow.buy_first(seller, operation="edit", image=image, size="1024x1024")
    assert [one["seller"] for one in job["images"]] == [BACKUP[seller]]
    assert flow.orders(seller) == 0
    assert {key for key in flow.booked()} == {(BACKUP[seller], "capture")}


@pytest.mark.parametrize("n", [1, 2, 4])
def test_images_whose_input_reaches_no_seller_fail_at_once_and_nothing_was_ordered(flow: Flow, n: int) -> None:
    """RunAPI makes one picture of an order: each image is bought by a task of its own, and given up by it."""
    flow.sandbox.fault("status", vendor="runapi", route="upload", status=500)
    image = {"b64_json": b64encode(flow.sandbox.sample(512, 512)).decode()}
    job = flow.buy(RUNAPI, operation="edit", image=image, n=n, size="1024x1024")
    assert (job["status"], job["attempts"]) == ("failed", [])
    assert len(flow.sandbox.requests("runapi", "upload")) == n
    assert (flow.orders(RUNAPI), flow.booked()) == (0, {})


def test_a_seller_that_takes_back_what_it_has_made_is_asked_on_at_its_pace(flow: Flow) -> None:
    """Its pictures exist, so that they may still come; that is no reason to ask for them all the time."""
    flow.sandbox.fault("status", vendor="runflow", route="download", status=503)
    job = flow.gateway.ask({"prompt": PROMPT, "quality": "low", "policy": f"first-{RUNS}"}, prefer="wait=0").json()
    flow.gateway.until("its pictures are asked for", lambda: len(flow.sandbox.requests("runflow", "download")) > 1)
    failed = json.dumps({"status": "failed", "status_code": "failed", "error": {"message": "x"}})
    flow.sandbox.fault("status", vendor="runflow", route="poll", status=200, body=failed)
    began, before = time.monotonic(), len(flow.sandbox.requests("runflow", "poll"))
    time.sleep(1.0)
    asked = len(flow.sandbox.requests("runflow", "poll")) - before
    # The shortest pause of these tests is a twentieth of a second.
    assert asked <= 2 * (time.monotonic() - began) / 0.05
    flow.sandbox.control("DELETE", "/faults")
    assert flow.gateway.job(job["id"])["status"] == "completed"
    assert flow.booked() == {(RUNS, "capture"): PRICE[RUNS]}
