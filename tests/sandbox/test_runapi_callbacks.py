"""RunAPI's callbacks, as a receiver on loopback sees them."""

import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Iterator

import pytest

from sandbox.runapi import CALLBACK_SECRET
from tests.sandbox.receiver import Received, Receiver, receiving
from tests.sandbox.runapi_buyer import Buyer
from tests.vendors import Vendors


@pytest.fixture
def buyer(sandbox: Vendors) -> Buyer:
    return Buyer(sandbox)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def hurried(sandbox: Vendors) -> Iterator[None]:
    """Retries follow at once."""
    sandbox.control("POST", "/switches", {"callback_pace": 0})
    yield
    sandbox.control("POST", "/switches", {"callback_pace": 1})


def genuine(received: Received) -> bool:
    """The check that the vendor's page tells receivers to make."""
    headers = received.headers
    signed = f"{headers['x-callback-id']}.{headers['x-callback-timestamp']}.".encode() + received.body
    expected = hmac.new(base64.b64decode(CALLBACK_SECRET), signed, hashlib.sha256).digest()
    assert abs(time.time() - int(headers["x-callback-timestamp"])) < 300
    return hmac.compare_digest(base64.b64encode(expected).decode(), headers["x-callback-signature"])


def test_a_finished_task_is_told_as_a_poll_would_tell_it(buyer: Buyer, receiver: Receiver) -> None:
    task = buyer.generate(callback_url=f"{receiver.url}?job=7", prompt="äöü 你好")
    [callback] = receiver.wait()
    assert callback.path == "/callbacks?job=7"
    assert callback.headers["content-type"] == "application/json"
    assert uuid.UUID(callback.headers["x-callback-id"])
    assert genuine(callback)
    assert callback.json() == task
    assert callback.json()["usage"]["cost"] == 0.06


def test_a_failed_task_is_told_too(sandbox: Vendors, buyer: Buyer, receiver: Receiver) -> None:
    sandbox.fault("fail", vendor="runapi", times=1, message="no luck")
    task = buyer.create(callback_url=receiver.url).json()
    [callback] = receiver.wait()
    assert genuine(callback)
    assert callback.json() == {"id": task["id"], "status": "failed", "error": "no luck"}


def test_a_callback_waits_for_the_end_of_its_task(sandbox: Vendors, buyer: Buyer, receiver: Receiver) -> None:
    sandbox.latency(0.3, vendor="runapi")
    began = time.time()
    buyer.create(callback_url=receiver.url)
    assert receiver.received() == []
    assert receiver.wait()[0].at - began >= 0.3


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("status", [500, 404, 302])
def test_anything_but_success_is_tried_again_with_the_same_bytes(buyer: Buyer, receiver: Receiver, status: int) -> None:
    receiver.then(status, status, 204)
    buyer.create(callback_url=receiver.url)
    first, second, third = receiver.wait(3)
    assert first.body == second.body == third.body
    assert first.headers["x-callback-id"] == second.headers["x-callback-id"] == third.headers["x-callback-id"]
    assert all(map(genuine, (first, second, third)))
    _another_order_ends(buyer, receiver, received=4)


def _another_order_ends(buyer: Buyer, receiver: Receiver, received: int) -> None:
    """By the time its callback is here, any further one of the order before would have been as well."""
    last = buyer.create(callback_url=receiver.url).json()
    assert receiver.wait(received)[-1].json()["id"] == last["id"]
    assert len(receiver.received()) == received


@pytest.mark.usefixtures("hurried")
def test_a_receiver_that_never_accepts_is_given_up(buyer: Buyer, receiver: Receiver) -> None:
    receiver.then(*[500] * 5)
    buyer.create(callback_url=receiver.url)
    receiver.wait(5)
    _another_order_ends(buyer, receiver, received=6)


def test_a_callback_may_be_withheld(sandbox: Vendors, buyer: Buyer, receiver: Receiver) -> None:
    sandbox.fault("no_callback", vendor="runapi", times=1)
    assert buyer.generate(callback_url=receiver.url)["status"] == "completed"
    _another_order_ends(buyer, receiver, received=1)


def test_an_early_callback_comes_before_the_answer_to_its_order(
    sandbox: Vendors, buyer: Buyer, receiver: Receiver
) -> None:
    sandbox.latency(5, vendor="runapi")
    sandbox.fault("early_callback", vendor="runapi", times=1)
    receiver.delay = 0.2
    created = buyer.create(callback_url=receiver.url).json()
    answered = time.time()
    [callback] = receiver.received()
    assert answered - callback.at >= 0.2
    assert genuine(callback)
    assert (callback.json()["id"], callback.json()["status"]) == (created["id"], "completed")
    assert created["status"] == "processing"
    assert buyer.poll(created["id"]).json() == callback.json()


def test_duplicates_share_their_id(sandbox: Vendors, buyer: Buyer, receiver: Receiver) -> None:
    sandbox.fault("duplicate_callback", vendor="runapi", times=1, copies=3)
    buyer.create(callback_url=receiver.url)
    callbacks = receiver.wait(3)
    assert len({callback.headers["x-callback-id"] for callback in callbacks}) == 1
    assert len({callback.body for callback in callbacks}) == 1
    assert all(map(genuine, callbacks))
    _another_order_ends(buyer, receiver, received=4)


@pytest.mark.parametrize(("outcome", "lie"), [("completed", "failed"), ("failed", "completed")])
def test_a_forged_callback_comes_first_and_lies(
    sandbox: Vendors, buyer: Buyer, receiver: Receiver, outcome: str, lie: str
) -> None:
    sandbox.fault("forged_callback", vendor="runapi", times=1)
    if outcome == "failed":
        sandbox.fault("fail", vendor="runapi", times=1)
    receiver.delay = 0.1
    task = buyer.create(callback_url=receiver.url).json()
    forged, real = receiver.wait(2)
    assert real.at - forged.at >= 0.1
    assert (genuine(forged), genuine(real)) == (False, True)
    assert (forged.json()["id"], forged.json()["status"]) == (task["id"], lie)
    assert (real.json()["id"], real.json()["status"]) == (task["id"], outcome)
    assert forged.headers["x-callback-id"] != real.headers["x-callback-id"]


def test_a_forged_callback_that_is_turned_away_is_not_tried_again(
    sandbox: Vendors, buyer: Buyer, receiver: Receiver
) -> None:
    sandbox.fault("forged_callback", vendor="runapi", times=1)
    receiver.then(401)
    buyer.create(callback_url=receiver.url)
    receiver.wait(2)
    _another_order_ends(buyer, receiver, received=3)


def test_no_callback_of_before_a_reset_arrives_after_it(sandbox: Vendors, buyer: Buyer, receiver: Receiver) -> None:
    sandbox.latency(0.2, vendor="runapi")
    buyer.create(callback_url=receiver.url)
    sandbox.reset()
    sandbox.latency(0.4, vendor="runapi")
    _another_order_ends(buyer, receiver, received=1)


def test_nobody_listening_does_no_harm(buyer: Buyer) -> None:
    with receiving() as gone:
        pass
    assert buyer.generate(callback_url=gone.url)["status"] == "completed"
