"""Runflow's callbacks: bytes, signatures, retries, injected faults."""

import hashlib
import hmac
import re
import time
from collections.abc import Iterator

import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_for_value
from tests.sandbox.callback_receiver import CallbackReceiver
from tests.sandbox.runflow_client import RunflowClient, build_order


@pytest.fixture
def runflow_client(sandbox: RunningSandbox) -> Iterator[RunflowClient]:
    before = sandbox.call_control_route("GET", "/switches")["callback_delay_factor"]
    sandbox.call_control_route("POST", "/switches", {"callback_delay_factor": 0.01})
    yield RunflowClient(sandbox)
    sandbox.call_control_route("POST", "/switches", {"callback_delay_factor": before})


def create_secret(runflow_client: RunflowClient) -> str:
    created = runflow_client.request("POST", "/v1/callback-secrets", {"label": "tests"})
    assert created.status_code == 201
    secret: str = created.json()["plain_secret"]
    return secret


def compute_signature(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_callback_has_the_documented_body_and_headers(
    runflow_client: RunflowClient, receiver: CallbackReceiver
) -> None:
    run_id = runflow_client.create_run(build_order(callback_url=receiver.url, metadata={"k": "v"})).json()["id"]
    (callback,) = receiver.wait_for_callbacks()
    body = callback.json()
    assert list(body) == [
        "event",
        "run_id",
        "status",
        "output",
        "duration_ms",
        "created_at",
        "completed_at",
        "metadata",
    ]
    assert (body["event"], body["run_id"], body["status"]) == ("run.completed", run_id, "succeeded")
    assert body["output"]["outputs"][0]["type"] == "image"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", body["created_at"])
    assert body["metadata"] == {"k": "v"}
    assert "runflow-request-id" in callback.headers
    assert "runflow-signature" not in callback.headers


def test_raw_bytes_are_signed_with_the_secret(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    secret = create_secret(runflow_client)
    runflow_client.create_run(build_order(callback_url=receiver.url))
    (callback,) = receiver.wait_for_callbacks()
    assert callback.headers["runflow-signature"] == compute_signature(secret, callback.body)


def test_newest_secret_signs_and_deleted_secret_does_not(
    runflow_client: RunflowClient, receiver: CallbackReceiver
) -> None:
    old, new = create_secret(runflow_client), create_secret(runflow_client)
    runflow_client.create_run(build_order(callback_url=receiver.url))
    assert receiver.wait_for_callbacks(1)[0].headers["runflow-signature"] == compute_signature(
        new, receiver.wait_for_callbacks(1)[0].body
    )
    listed = runflow_client.request("GET", "/v1/callback-secrets").json()["items"]
    assert [item["is_current"] for item in listed] == [False, True]
    assert all("plain_secret" not in item for item in listed)
    assert runflow_client.request("DELETE", f"/v1/callback-secrets/{listed[1]['id']}").status_code == 204
    assert runflow_client.request("DELETE", f"/v1/callback-secrets/{listed[1]['id']}").status_code == 404
    runflow_client.create_run(build_order(callback_url=receiver.url))
    last = receiver.wait_for_callbacks(2)[1]
    assert last.headers["runflow-signature"] == compute_signature(old, last.body)


@pytest.mark.parametrize(
    ("retries", "statuses", "attempts"),
    [("5xx", [500, 502, 200], 3), ("5xx", [404], 1), ("any", [404, 301, 200], 3), ("5xx", [500, 500, 500], 3)],
)
def test_callback_retries_follow_the_switch(
    runflow_client: RunflowClient, receiver: CallbackReceiver, retries: str, statuses: list[int], attempts: int
) -> None:
    receiver.queue_statuses(*statuses)
    with runflow_client.sandbox.override_switches("runflow", callback_retries=retries):
        run_id = runflow_client.create_run(build_order(callback_url=receiver.url)).json()["id"]
        seen = receiver.wait_for_callbacks(attempts)
        time.sleep(0.15)
    assert len(receiver.list_callbacks()) == attempts
    assert len({callback.body for callback in seen}) == 1
    (record,) = runflow_client.request("GET", f"/v1/runs/{run_id}/callback").json()
    assert [attempt["status_code"] for attempt in record["attempts"]] == statuses
    assert record["attempt_count"] == attempts
    assert record["payload_bytes"].encode() == seen[0].body


def test_unreachable_callback_is_given_up(runflow_client: RunflowClient) -> None:
    run = runflow_client.run_to_end(build_order(callback_url="http://127.0.0.1:1/nobody"))
    records = wait_for_value(
        lambda: runflow_client.request("GET", f"/v1/runs/{run['id']}/callback").json(),
        lambda records: records and records[0]["completed_at"] is not None,
        "the callback is given up",
    )
    assert (records[0]["status_code"], records[0]["attempts"][0]["error_message"]) == ("failed", "ConnectError")


def test_failed_run_sends_a_callback(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    runflow_client.sandbox.inject_fault("fail", vendor="runflow")
    runflow_client.create_run(build_order(callback_url=receiver.url))
    body = receiver.wait_for_callbacks()[0].json()
    assert (body["event"], body["status"], body["output"]) == ("run.failed", "failed", None)


def test_failure_output_switch_sends_an_error_as_output(
    runflow_client: RunflowClient, receiver: CallbackReceiver
) -> None:
    runflow_client.sandbox.inject_fault("fail", vendor="runflow", code="X", message="y")
    with runflow_client.sandbox.override_switches("runflow", callback_failure_output="error"):
        runflow_client.create_run(build_order(callback_url=receiver.url))
        assert receiver.wait_for_callbacks()[0].json()["output"] == {"code": "X", "message": "y"}


def test_cancelled_run_sends_the_event_run_cancelled(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    runflow_client.sandbox.set_latency(5.0)
    run_id = runflow_client.create_run(build_order(callback_url=receiver.url)).json()["id"]
    runflow_client.request("POST", f"/v1/admin/runs/{run_id}/cancellation", {})
    body = receiver.wait_for_callbacks()[0].json()
    assert (body["event"], body["status"]) == ("run.cancelled", "canceled")


def test_partial_run_sends_its_own_event(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    runflow_client.sandbox.inject_fault("partial", vendor="runflow")
    runflow_client.create_run(build_order(num_images=2, callback_url=receiver.url))
    assert receiver.wait_for_callbacks()[0].json()["event"] == "run.partial_succeeded"


def test_callback_can_be_redelivered(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    run_id = runflow_client.create_run(build_order(callback_url=receiver.url)).json()["id"]
    receiver.wait_for_callbacks()
    again = runflow_client.request("POST", f"/v1/runs/{run_id}/callback-redeliveries")
    assert (again.status_code, again.json()["is_automatic"]) == (201, False)
    assert receiver.wait_for_callbacks(2)[1].json()["run_id"] == run_id
    run_without_callback = runflow_client.run_to_end()
    assert (
        runflow_client.request("POST", f"/v1/runs/{run_without_callback['id']}/callback-redeliveries").status_code
        == 422
    )


def test_no_callback_fault_sends_no_callback(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    runflow_client.sandbox.inject_fault("no_callback", vendor="runflow", times=1)
    runflow_client.run_to_end(build_order(callback_url=receiver.url))
    second = runflow_client.create_run(build_order(callback_url=receiver.url)).json()["id"]
    assert [callback.json()["run_id"] for callback in receiver.wait_for_callbacks()] == [second]


def test_early_callback_arrives_before_the_response(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    runflow_client.sandbox.set_latency(5.0)
    runflow_client.sandbox.inject_fault("early_callback", vendor="runflow")
    answer = runflow_client.create_run(build_order(callback_url=receiver.url))
    (callback,) = receiver.list_callbacks()
    assert callback.json()["run_id"] == answer.json()["id"]
    assert answer.json()["status_code"] == "queued"
    assert runflow_client.get_run(answer.json()["id"])["status_code"] == "succeeded"


def test_duplicate_callbacks_have_the_same_bytes(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    runflow_client.sandbox.inject_fault("duplicate_callback", vendor="runflow", copies=3)
    runflow_client.create_run(build_order(callback_url=receiver.url))
    assert len({callback.body for callback in receiver.wait_for_callbacks(3)}) == 1


def test_forged_callback_has_a_wrong_signature(runflow_client: RunflowClient, receiver: CallbackReceiver) -> None:
    secret = create_secret(runflow_client)
    runflow_client.sandbox.inject_fault("forged_callback", vendor="runflow")
    runflow_client.create_run(build_order(callback_url=receiver.url))
    forged, genuine = receiver.wait_for_callbacks(2)
    assert (forged.json()["status"], genuine.json()["status"]) == ("failed", "succeeded")
    assert forged.headers["runflow-signature"] != compute_signature(secret, forged.body)
    assert genuine.headers["runflow-signature"] == compute_signature(secret, genuine.body)


def test_inline_output_is_in_the_callback_and_the_first_read(
    runflow_client: RunflowClient, receiver: CallbackReceiver
) -> None:
    run_id = runflow_client.create_run(build_order(sync_mode=True, callback_url=receiver.url)).json()["id"]
    data_uri = receiver.wait_for_callbacks()[0].json()["output"]["outputs"][0]["url"]
    assert data_uri.startswith("data:image/png;base64,")
    assert runflow_client.get_run(run_id)["output"]["outputs"][0]["url"] == data_uri
    assert runflow_client.get_run(run_id)["output"] is None
