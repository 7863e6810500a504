"""Any number of calls to an attempt's address: they are counted, and cost neither lines of the log nor questions."""

import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from sandbox.runapi_callbacks import CALLBACK_SECRET, sign
from tests.flow.configuration import SELLERS, UNHURRIED
from tests.flow.gateways import PROMPT, Flow, Gateway
from tests.flow.places import replicas
from tests.flow.test_callbacks import address_in, another, expect_one_sale
from tests.store.raw import Raw
from tests.vendors import Vendors

RUNS, RUN, RUNAPI, OPENAI = SELLERS
CALLS, ORDER_SECONDS = 300, 2.5
# A second at most since the last question, and what a busy machine needs to fetch a picture.
SOON_SECONDS = 3.0
ON_ONE_STORE = pytest.mark.parametrize("kept", ["sqlite"], indirect=True)


def signed(name: str, body: bytes, secret: str = CALLBACK_SECRET) -> tuple[bytes, dict[str, str]]:
    stamp = str(int(time.time()))
    signature = sign(secret, name, stamp, body)
    return body, {"x-callback-id": name, "x-callback-timestamp": stamp, "x-callback-signature": signature}


def call_all(url: str, calls: Sequence[tuple[bytes, dict[str, str]]]) -> list[int]:
    with httpx.Client(trust_env=False, timeout=30) as client, ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda one: client.post(url, content=one[0], headers=one[1]).status_code, calls))


def worth(flow: Flow, worth: str) -> float:
    return flow.gateway.metric("igw_callbacks_total", worth=worth)


@pytest.fixture
def running(flow: Flow) -> Iterator[str]:
    yield from order_that_runs(flow)


def order_that_runs(flow: Flow) -> Iterator[str]:
    """The callback address of an order that takes a while, and that is polled only after a minute unless called."""
    flow.sandbox.latency(ORDER_SECONDS)
    flow.sandbox.fault("no_callback", vendor="runapi")
    wishes = {"prompt": PROMPT, "quality": "low", "provider": {"only": [RUNAPI]}, "model": UNHURRIED}
    name = flow.gateway.ask(wishes, prefer="wait=0").json()["id"]
    flow.gateway.until(
        "it is ordered", lambda: any(order["body"] for order in flow.sandbox.requests("runapi", "submit"))
    )
    done, address = time.monotonic() + ORDER_SECONDS, address_in(flow, RUNAPI)
    yield address
    # Another one, when it is done: it is heard at once.
    time.sleep(max(0.0, done - time.monotonic()))
    began = time.monotonic()
    assert call_all(address, [signed("the end", b"{}")]) == [204]
    job = flow.gateway.job(name)
    assert time.monotonic() - began < SOON_SECONDS
    expect_one_sale(flow, RUNAPI, job)


def questions(flow: Flow) -> int:
    return len(flow.sandbox.requests("runapi", "poll"))


@ON_ONE_STORE
def test_replays_of_one_callback_are_one_question(flow: Flow, running: str) -> None:
    duplicates = worth(flow, "duplicate")
    once = signed("again and again", b'{"status": "completed"}')
    assert call_all(running, [once] * CALLS) == [204] * CALLS
    flow.gateway.until("it is asked about", lambda: questions(flow) >= 1)
    assert questions(flow) == 1
    assert worth(flow, "duplicate") == duplicates + CALLS - 1


@ON_ONE_STORE
def test_callbacks_that_are_all_different_are_a_question_a_second(flow: Flow, running: str) -> None:
    accepted, began = worth(flow, "accepted"), time.monotonic()
    calls = [signed(f"number {number}", b"{}") for number in range(CALLS)]
    assert call_all(running, calls) == [204] * CALLS
    assert questions(flow) <= 2 + (time.monotonic() - began)
    assert worth(flow, "accepted") == accepted + CALLS


@pytest.fixture(scope="module")
def pair(sandbox_process: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway, Raw]]:
    with replicas(2, tmp_path_factory.mktemp("pair"), sandbox_process) as ([one, two], raw):
        yield one, two, raw


def test_replays_that_land_on_another_replica_are_one_question_of_its_owner(
    pair: tuple[Gateway, Gateway, Raw], sandbox: Vendors
) -> None:
    one, two, raw = pair
    flow, elsewhere = Flow(one, sandbox, raw), Flow(two, sandbox, raw)
    once = signed("again and again", b'{"status": "completed"}')
    for address in order_that_runs(flow):
        assert call_all(address.replace(one.url, two.url), [once] * CALLS) == [204] * CALLS
        flow.gateway.until("its owner asks", lambda: questions(flow) == 1)
        assert worth(elsewhere, "duplicate") == CALLS - 1
        time.sleep(1.2)
        assert questions(flow) == 1


def test_replays_at_another_replica_are_a_question_a_second_while_the_seller_does_not_answer(
    pair: tuple[Gateway, Gateway, Raw], sandbox: Vendors
) -> None:
    one, two, raw = pair
    flow, secret = Flow(one, sandbox, raw), "whsec_abc"
    for replica in pair[:2]:
        replica.callback_secret.write_text(secret)
        replica.reload()
    try:
        sandbox.latency(20.0)
        sandbox.fault("no_callback", vendor="runflow")
        sandbox.fault("slow", vendor="runflow", route="submit", seconds=6)
        sandbox.fault("status", vendor="runflow", route="poll", status=503)
        wishes = {"prompt": PROMPT, "quality": "low", "provider": {"only": [RUNS]}, "model": UNHURRIED}
        one.ask(wishes, prefer="wait=0")
        one.until("it is ordered", lambda: any(order["body"] for order in sandbox.requests("runflow", "submit")))
        address = address_in(flow, RUNS).replace(one.url, two.url)
        body = b'{"id": "018f0000-0000-7000-8000-000000000001", "status": "completed"}'
        seal = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        began = time.monotonic()
        call_all(address, [(body, {"runflow-signature": seal, "content-type": "application/json"})] * CALLS)
        assert len(sandbox.requests("runflow", "poll")) <= 2 + (time.monotonic() - began)
    finally:
        sandbox.control("DELETE", "/faults")
        sandbox.latency(0.0)


@ON_ONE_STORE
def test_forged_callbacks_are_counted_and_written_once(flow: Flow) -> None:
    flow.buy(RUNAPI)
    address = address_in(flow, RUNAPI)
    forged, unknown, written = worth(flow, "forged"), worth(flow, "unknown"), len(lines(flow))
    impostor = signed("x", b"{}", "bm9ib2R5")
    assert call_all(address, [impostor] * CALLS) == [401] * CALLS
    assert call_all(another(address, seal="0" * 32), [impostor] * CALLS) == [401] * CALLS
    assert (worth(flow, "forged"), worth(flow, "unknown")) == (forged + CALLS, unknown + CALLS)
    time.sleep(0.2)
    assert len(lines(flow)) - written <= 2


def lines(flow: Flow) -> list[dict[str, object]]:
    """All that mention callbacks."""
    written = [json.loads(line) for line in flow.gateway.errors().splitlines()]
    return [line for line in written if "callback" in json.dumps(line)]
