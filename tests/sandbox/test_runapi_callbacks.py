"""RunAPI's callbacks, as received over loopback."""

import base64
import hashlib
import hmac
import time
import uuid
from collections.abc import Iterator

import pytest

from sandbox.runapi.routes import CALLBACK_SECRET
from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.callback_receiver import CallbackReceiver, ReceivedCallback, run_receiver
from tests.sandbox.runapi_client import RunapiClient


@pytest.fixture
def immediate_retries(sandbox: RunningSandbox) -> Iterator[None]:
    """Makes retries immediate."""
    sandbox.call_control_route("POST", "/switches", {"callback_delay_factor": 0})
    yield
    sandbox.call_control_route("POST", "/switches", {"callback_delay_factor": 1})


def has_valid_signature(callback: ReceivedCallback) -> bool:
    """Verifies the signature as the vendor's page describes it."""
    headers = callback.headers
    signed_bytes = f"{headers['x-callback-id']}.{headers['x-callback-timestamp']}.".encode() + callback.body
    expected = hmac.new(base64.b64decode(CALLBACK_SECRET), signed_bytes, hashlib.sha256).digest()
    assert abs(time.time() - int(headers["x-callback-timestamp"])) < 300
    return hmac.compare_digest(base64.b64encode(expected).decode(), headers["x-callback-signature"])


def test_callback_of_a_finished_task_equals_its_poll(runapi_client: RunapiClient, receiver: CallbackReceiver) -> None:
    task = runapi_client.run_generation(callback_url=f"{receiver.url}?job=7", prompt="äöü 你好")
    [callback] = receiver.wait_for_callbacks()
    assert callback.path == "/callbacks?job=7"
    assert callback.headers["content-type"] == "application/json"
    assert uuid.UUID(callback.headers["x-callback-id"])
    assert has_valid_signature(callback)
    assert callback.json() == task
    assert callback.json()["usage"]["cost"] == 0.06


def test_failed_task_sends_a_callback(
    sandbox: RunningSandbox, runapi_client: RunapiClient, receiver: CallbackReceiver
) -> None:
    sandbox.inject_fault("fail", vendor="runapi", times=1, message="no luck")
    task = runapi_client.create_task(callback_url=receiver.url).json()
    [callback] = receiver.wait_for_callbacks()
    assert has_valid_signature(callback)
    assert callback.json() == {"id": task["id"], "status": "failed", "error": "no luck"}


def test_callback_is_sent_when_the_task_ends(
    sandbox: RunningSandbox, runapi_client: RunapiClient, receiver: CallbackReceiver
) -> None:
    sandbox.hold_orders(vendor="runapi")
    runapi_client.create_task(callback_url=receiver.url)
    assert receiver.list_callbacks() == []
    sandbox.release_orders()
    assert len(receiver.wait_for_callbacks()) == 1


@pytest.mark.usefixtures("immediate_retries")
@pytest.mark.parametrize("status", [500, 404, 302])
def test_failed_callback_is_retried_with_the_same_bytes(
    runapi_client: RunapiClient, receiver: CallbackReceiver, status: int
) -> None:
    receiver.queue_statuses(status, status, 204)
    first, second, third = _expect_callbacks_of_one_task(runapi_client, receiver, 3)
    assert first.body == second.body == third.body
    assert first.headers["x-callback-id"] == second.headers["x-callback-id"] == third.headers["x-callback-id"]
    assert all(map(has_valid_signature, (first, second, third)))


def _expect_callbacks_of_one_task(
    runapi_client: RunapiClient, receiver: CallbackReceiver, count: int
) -> list[ReceivedCallback]:
    """Creates a task, and returns its callbacks: as many, and no more."""
    runapi_client.create_task(callback_url=receiver.url)
    callbacks = receiver.wait_for_callbacks(count)
    _expect_last_callback(runapi_client, receiver, callback_count=count + 1)
    return callbacks


def _expect_last_callback(runapi_client: RunapiClient, receiver: CallbackReceiver, callback_count: int) -> None:
    """Creates another task; when its callback arrives, further ones of earlier tasks would have arrived too."""
    task = runapi_client.create_task(callback_url=receiver.url).json()
    assert receiver.wait_for_callbacks(callback_count)[-1].json()["id"] == task["id"]
    assert len(receiver.list_callbacks()) == callback_count


@pytest.mark.usefixtures("immediate_retries")
def test_callback_is_given_up_after_five_attempts(runapi_client: RunapiClient, receiver: CallbackReceiver) -> None:
    receiver.queue_statuses(*[500] * 5)
    _expect_callbacks_of_one_task(runapi_client, receiver, 5)


def test_no_callback_fault_sends_no_callback(
    sandbox: RunningSandbox, runapi_client: RunapiClient, receiver: CallbackReceiver
) -> None:
    sandbox.inject_fault("no_callback", vendor="runapi", times=1)
    assert runapi_client.run_generation(callback_url=receiver.url)["status"] == "completed"
    _expect_last_callback(runapi_client, receiver, callback_count=1)


def test_early_callback_arrives_before_the_response(
    sandbox: RunningSandbox, runapi_client: RunapiClient, receiver: CallbackReceiver
) -> None:
    sandbox.set_latency(5, vendor="runapi")
    sandbox.inject_fault("early_callback", vendor="runapi", times=1)
    receiver.delay_seconds = 0.2
    created = runapi_client.create_task(callback_url=receiver.url).json()
    answered = time.time()
    [callback] = receiver.list_callbacks()
    assert answered - callback.received_at >= 0.2
    assert has_valid_signature(callback)
    assert (callback.json()["id"], callback.json()["status"]) == (created["id"], "completed")
    assert created["status"] == "processing"
    assert runapi_client.poll_task(created["id"]).json() == callback.json()


def test_duplicate_callbacks_share_their_id(
    sandbox: RunningSandbox, runapi_client: RunapiClient, receiver: CallbackReceiver
) -> None:
    sandbox.inject_fault("duplicate_callback", vendor="runapi", times=1, copies=3)
    callbacks = _expect_callbacks_of_one_task(runapi_client, receiver, 3)
    assert len({callback.headers["x-callback-id"] for callback in callbacks}) == 1
    assert len({callback.body for callback in callbacks}) == 1
    assert all(map(has_valid_signature, callbacks))


@pytest.mark.parametrize(("outcome", "false_status"), [("completed", "failed"), ("failed", "completed")])
def test_forged_callback_arrives_first_with_a_false_status(
    sandbox: RunningSandbox, runapi_client: RunapiClient, receiver: CallbackReceiver, outcome: str, false_status: str
) -> None:
    sandbox.inject_fault("forged_callback", vendor="runapi", times=1)
    if outcome == "failed":
        sandbox.inject_fault("fail", vendor="runapi", times=1)
    receiver.delay_seconds = 0.1
    task = runapi_client.create_task(callback_url=receiver.url).json()
    forged, real = receiver.wait_for_callbacks(2)
    assert real.received_at - forged.received_at >= 0.1
    assert (has_valid_signature(forged), has_valid_signature(real)) == (False, True)
    assert (forged.json()["id"], forged.json()["status"]) == (task["id"], false_status)
    assert (real.json()["id"], real.json()["status"]) == (task["id"], outcome)
    assert forged.headers["x-callback-id"] != real.headers["x-callback-id"]


def test_rejected_forged_callback_is_not_retried(
    sandbox: RunningSandbox, runapi_client: RunapiClient, receiver: CallbackReceiver
) -> None:
    sandbox.inject_fault("forged_callback", vendor="runapi", times=1)
    receiver.queue_statuses(401)
    _expect_callbacks_of_one_task(runapi_client, receiver, 2)


def test_reset_cancels_pending_callbacks(
    sandbox: RunningSandbox, runapi_client: RunapiClient, receiver: CallbackReceiver
) -> None:
    sandbox.hold_orders(vendor="runapi")
    runapi_client.create_task(callback_url=receiver.url)
    sandbox.reset()
    sandbox.set_latency(0.4, vendor="runapi")
    _expect_last_callback(runapi_client, receiver, callback_count=1)


def test_unreachable_receiver_does_not_fail_the_task(runapi_client: RunapiClient) -> None:
    with run_receiver() as closed_receiver:
        pass
    assert runapi_client.run_generation(callback_url=closed_receiver.url)["status"] == "completed"
