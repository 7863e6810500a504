"""Sellers call back early, late, twice, with forged words, or not at all: what counts is what they say when asked."""

import hmac
import json
import time
from typing import Any

import httpx
import pytest

from sandbox.runapi_callbacks import CALLBACK_SECRET, sign
from tests.flow.configuration import SELLERS, UNHURRIED, VENDOR
from tests.flow.gateways import PROMPT, Flow, Job
from tests.flow.test_orders_under_fault import PRICE

RUNS, RUN, RUNAPI, OPENAI = SELLERS
EACH = pytest.mark.parametrize("seller", [RUNS, RUNAPI])
# Far less than an unhurried order is expected to take: whoever is done by then has been called.
SOON_SECONDS = 10.0


def buy_unhurried(flow: Flow, seller: str) -> Job:
    """Of a model that nobody asks about for a minute, unless its seller calls."""
    if seller == RUNS:
        flow.sign_callbacks()
    began = time.monotonic()
    job = flow.buy(seller, model=UNHURRIED)
    assert time.monotonic() - began < SOON_SECONDS, "nobody heard the callback"
    return job


def expect_one_sale(flow: Flow, seller: str, job: Job) -> None:
    assert job["status"] == "completed"
    assert len(job["images"]) == 1
    assert flow.orders(seller) == 1
    assert flow.booked() == {(seller, "capture"): PRICE[seller]}


def address_in(flow: Flow, seller: str) -> str:
    """Where the seller was asked to call, as the last order said. One whose body is still coming says nothing yet."""
    bodies = [order["body"] for order in flow.sandbox.requests(VENDOR[seller], "submit")]
    return str(json.loads([body for body in bodies if body][-1])["callback_url"])


def call(url: str, body: bytes, secret: str = CALLBACK_SECRET, at: float | None = None) -> int:
    """As RunAPI does it, and as an impostor would."""
    stamp = str(int(time.time() if at is None else at))
    signature = sign(secret, "msg_1", stamp, body)
    headers = {"x-callback-id": "msg_1", "x-callback-timestamp": stamp, "x-callback-signature": signature}
    return httpx.post(url, content=body, headers=headers, trust_env=False).status_code


@EACH
def test_a_callback_is_a_reason_to_ask_at_once(flow: Flow, seller: str) -> None:
    flow.sandbox.latency(0.3)
    job = buy_unhurried(flow, seller)
    assert len(flow.sandbox.requests(VENDOR[seller], "poll")) == 1
    expect_one_sale(flow, seller, job)


@EACH
def test_a_callback_that_comes_before_the_answer_is_not_forgotten(flow: Flow, seller: str) -> None:
    flow.sandbox.fault("early_callback", vendor=VENDOR[seller])
    expect_one_sale(flow, seller, buy_unhurried(flow, seller))


@EACH
def test_a_callback_that_comes_many_times_delivers_once(flow: Flow, seller: str) -> None:
    heard = flow.callbacks(204)
    flow.sandbox.fault("duplicate_callback", vendor=VENDOR[seller], copies=5)
    expect_one_sale(flow, seller, buy_unhurried(flow, seller))
    flow.gateway.until("all of them are answered", lambda: flow.callbacks(204) == heard + 5)


@EACH
def test_a_forged_callback_is_refused_and_the_true_one_heard(flow: Flow, seller: str) -> None:
    refused = flow.callbacks(401)
    flow.sandbox.fault("forged_callback", vendor=VENDOR[seller])
    job = buy_unhurried(flow, seller)
    assert flow.callbacks(401) > refused
    expect_one_sale(flow, seller, job)


@EACH
def test_a_forged_callback_of_a_failure_that_was_none(flow: Flow, seller: str) -> None:
    """And the other way round: an order that failed, and words that it did not."""
    flow.sandbox.fault("forged_callback", vendor=VENDOR[seller])
    flow.sandbox.fault("fail", vendor=VENDOR[seller])
    job = buy_unhurried(flow, seller)
    assert job["status"] == "failed"
    assert flow.booked() == {}


@EACH
def test_without_any_callback_asking_does_it(flow: Flow, seller: str) -> None:
    heard = flow.callbacks(204)
    flow.sandbox.fault("no_callback", vendor=VENDOR[seller])
    job = flow.buy(seller)
    expect_one_sale(flow, seller, job)
    assert flow.callbacks(204) == heard


def test_unsigned_callbacks_are_not_believed_and_not_needed(flow: Flow) -> None:
    """As long as Runflow has no secret to sign with."""
    refused = flow.callbacks(401)
    flow.sandbox.fault("early_callback", vendor="runflow")
    job = flow.buy(RUNS)
    expect_one_sale(flow, RUNS, job)
    assert flow.callbacks(401) > refused


def test_a_callback_after_the_end_changes_nothing(flow: Flow) -> None:
    flow.sandbox.fault("no_callback", vendor="runapi")
    job = flow.buy(RUNAPI)
    booked = flow.booked()
    body = json.dumps({"id": "task-of-nobody", "status": "failed"}).encode()
    assert [call(address_in(flow, RUNAPI), body) for _ in range(3)] == [204] * 3
    # Links are signed again for each answer.
    found = flow.gateway.job(job["id"])
    assert found == job | {"images": found["images"], "expires_at": found["expires_at"]}
    assert flow.booked() == booked == {(RUNAPI, "capture"): PRICE[RUNAPI]}


def another(url: str, **parts: str) -> str:
    base, adapter, job, attempt, seal = url.rsplit("/", 4)
    said = {"adapter": adapter, "job": job, "attempt": attempt, "seal": seal, **parts}
    return "/".join([base, said["adapter"], said["job"], said["attempt"], said["seal"]])


def test_whoever_has_no_address_or_no_signature_is_refused(flow: Flow) -> None:
    flow.buy(RUNAPI)
    url, body = address_in(flow, RUNAPI), b'{"id": "task-1", "status": "completed"}'
    first, second = flow.buy(RUNAPI)["id"], address_in(flow, RUNAPI)
    assert first in second
    impostors: list[tuple[str, dict[str, Any]]] = [
        (url, {"secret": "bm9ib2R5"}),
        (url, {"at": time.time() - 3_600}),
        (url, {"at": time.time() + 3_600}),
        (another(url, seal="0" * 32), {}),
        (another(url, attempt="2"), {}),
        (another(url, job=first), {}),
        (another(url, adapter="runflow_runs"), {}),
    ]
    assert [call(where, body, **how) for where, how in impostors] == [401] * len(impostors)


def test_a_lost_run_is_found_by_its_callback_where_it_cannot_be_searched(flow: Flow) -> None:
    """The answer to the order is lost, the search is down: only the callback says which run it is."""
    flow.sandbox.fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.fault("status", vendor="runflow", route="find", status=500)
    flow.sandbox.latency(0.3)
    expect_one_sale(flow, RUNS, buy_unhurried(flow, RUNS))


def test_a_lost_run_is_found_by_a_callback_that_came_before_it_was_known_to_be_lost(flow: Flow) -> None:
    flow.sandbox.fault("early_callback", vendor="runflow")
    flow.sandbox.fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.fault("status", vendor="runflow", route="find", status=500)
    expect_one_sale(flow, RUNS, buy_unhurried(flow, RUNS))


def test_a_callback_about_another_order_binds_nothing(flow: Flow) -> None:
    """Signed by the seller, sent to the right address, and about a run whose reference is not this order's."""
    flow.sign_callbacks()
    flow.buy(RUNS)
    body = json.dumps({"run_id": flow.sandbox.charges("runflow")[0]["id"]}).encode()
    flow.sandbox.fault("no_callback", vendor="runflow")
    flow.sandbox.fault("reset_after", vendor="runflow", times=1)
    flow.sandbox.fault("status", vendor="runflow", route="find", status=500)
    wishes = {"prompt": PROMPT, "quality": "low", "provider": {"only": [RUNS]}}
    name = flow.gateway.ask(wishes, prefer="wait=0").json()["id"]
    flow.gateway.until("the order is sent", lambda: name in address_in(flow, RUNS))
    secret = flow.gateway.callback_secret.read_text().encode()
    headers = {"runflow-signature": hmac.new(secret, body, "sha256").hexdigest()}
    assert httpx.post(address_in(flow, RUNS), content=body, headers=headers, trust_env=False).status_code == 204
    assert flow.gateway.job(name)["error"]["code"] == "outcome_unknown"
    assert flow.booked() == {(RUNS, "capture"): PRICE[RUNS], (RUNS, "suspected"): PRICE[RUNS]}
