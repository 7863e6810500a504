"""Runflow's callbacks: their bytes, their signature, their retries, and their mischief."""

import hashlib
import hmac
import re
import time
from collections.abc import Iterator

import pytest

from tests.sandbox.receiver import Receiver, receiving
from tests.sandbox.runflow_owner import Owner, order
from tests.vendors import Vendors


@pytest.fixture
def owner(sandbox: Vendors) -> Iterator[Owner]:
    before = sandbox.control("GET", "/switches")["callback_pace"]
    sandbox.control("POST", "/switches", {"callback_pace": 0.01})
    yield Owner(sandbox)
    sandbox.control("POST", "/switches", {"callback_pace": before})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def a_secret(owner: Owner) -> str:
    made = owner.ask("POST", "/v1/callback-secrets", {"label": "tests"})
    assert made.status_code == 201
    secret: str = made.json()["plain_secret"]
    return secret


def signature(secret: str, body: bytes) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def test_a_callback_has_the_documented_body_and_headers(owner: Owner, receiver: Receiver) -> None:
    run_id = owner.create(order(callback_url=receiver.url, metadata={"k": "v"})).json()["id"]
    (callback,) = receiver.wait()
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


def test_with_a_secret_the_raw_bytes_are_signed(owner: Owner, receiver: Receiver) -> None:
    secret = a_secret(owner)
    owner.create(order(callback_url=receiver.url))
    (callback,) = receiver.wait()
    assert callback.headers["runflow-signature"] == signature(secret, callback.body)


def test_the_newest_secret_signs_and_a_deleted_one_does_not(owner: Owner, receiver: Receiver) -> None:
    old, new = a_secret(owner), a_secret(owner)
    owner.create(order(callback_url=receiver.url))
    assert receiver.wait(1)[0].headers["runflow-signature"] == signature(new, receiver.wait(1)[0].body)
    listed = owner.ask("GET", "/v1/callback-secrets").json()["items"]
    assert [item["is_current"] for item in listed] == [False, True]
    assert all("plain_secret" not in item for item in listed)
    assert owner.ask("DELETE", f"/v1/callback-secrets/{listed[1]['id']}").status_code == 204
    assert owner.ask("DELETE", f"/v1/callback-secrets/{listed[1]['id']}").status_code == 404
    owner.create(order(callback_url=receiver.url))
    last = receiver.wait(2)[1]
    assert last.headers["runflow-signature"] == signature(old, last.body)


@pytest.mark.parametrize(
    ("retries", "statuses", "attempts"),
    [("5xx", [500, 502, 200], 3), ("5xx", [404], 1), ("any", [404, 301, 200], 3), ("5xx", [500, 500, 500], 3)],
)
def test_callbacks_are_tried_again_as_either_page_says(
    owner: Owner, receiver: Receiver, retries: str, statuses: list[int], attempts: int
) -> None:
    receiver.then(*statuses)
    with owner.sandbox.switched("runflow", callback_retries=retries):
        run_id = owner.create(order(callback_url=receiver.url)).json()["id"]
        seen = receiver.wait(attempts)
        time.sleep(0.15)
    assert len(receiver.received()) == attempts
    assert len({callback.body for callback in seen}) == 1
    (record,) = owner.ask("GET", f"/v1/runs/{run_id}/callback").json()
    assert [attempt["status_code"] for attempt in record["attempts"]] == statuses
    assert record["attempt_count"] == attempts
    assert record["payload_bytes"].encode() == seen[0].body


def test_a_callback_that_nobody_takes_is_given_up(owner: Owner) -> None:
    run = owner.run(order(callback_url="http://127.0.0.1:1/nobody"))
    deadline = time.monotonic() + 5
    while (
        not (records := owner.ask("GET", f"/v1/runs/{run['id']}/callback").json()) or records[0]["completed_at"] is None
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (records[0]["status_code"], records[0]["attempts"][0]["error_message"]) == ("failed", "ConnectError")


def test_a_failed_run_is_called_back_too(owner: Owner, receiver: Receiver) -> None:
    owner.sandbox.fault("fail", vendor="runflow")
    owner.create(order(callback_url=receiver.url))
    body = receiver.wait()[0].json()
    assert (body["event"], body["status"], body["output"]) == ("run.failed", "failed", None)


def test_the_other_page_has_an_error_for_output(owner: Owner, receiver: Receiver) -> None:
    owner.sandbox.fault("fail", vendor="runflow", code="X", message="y")
    with owner.sandbox.switched("runflow", callback_failure_output="error"):
        owner.create(order(callback_url=receiver.url))
        assert receiver.wait()[0].json()["output"] == {"code": "X", "message": "y"}


def test_a_cancelled_run_is_called_back_by_the_events_own_spelling(owner: Owner, receiver: Receiver) -> None:
    owner.sandbox.latency(5.0)
    run_id = owner.create(order(callback_url=receiver.url)).json()["id"]
    owner.ask("POST", f"/v1/admin/runs/{run_id}/cancellation", {})
    body = receiver.wait()[0].json()
    assert (body["event"], body["status"]) == ("run.cancelled", "canceled")


def test_part_of_the_pictures_has_an_event_of_its_own(owner: Owner, receiver: Receiver) -> None:
    owner.sandbox.fault("partial", vendor="runflow")
    owner.create(order(num_images=2, callback_url=receiver.url))
    assert receiver.wait()[0].json()["event"] == "run.partial_succeeded"


def test_a_callback_can_be_sent_again(owner: Owner, receiver: Receiver) -> None:
    run_id = owner.create(order(callback_url=receiver.url)).json()["id"]
    receiver.wait()
    again = owner.ask("POST", f"/v1/runs/{run_id}/callback-redeliveries")
    assert (again.status_code, again.json()["is_automatic"]) == (201, False)
    assert receiver.wait(2)[1].json()["run_id"] == run_id
    without = owner.run()
    assert owner.ask("POST", f"/v1/runs/{without['id']}/callback-redeliveries").status_code == 422


def test_mischief_no_callback(owner: Owner, receiver: Receiver) -> None:
    owner.sandbox.fault("no_callback", vendor="runflow", times=1)
    owner.run(order(callback_url=receiver.url))
    second = owner.create(order(callback_url=receiver.url)).json()["id"]
    assert [callback.json()["run_id"] for callback in receiver.wait()] == [second]


def test_mischief_early_callback_overtakes_the_answer(owner: Owner, receiver: Receiver) -> None:
    owner.sandbox.latency(5.0)
    owner.sandbox.fault("early_callback", vendor="runflow")
    answer = owner.create(order(callback_url=receiver.url))
    (callback,) = receiver.received()
    assert callback.json()["run_id"] == answer.json()["id"]
    assert answer.json()["status_code"] == "queued"
    assert owner.get(answer.json()["id"])["status_code"] == "succeeded"


def test_mischief_duplicate_callbacks_are_the_same_bytes(owner: Owner, receiver: Receiver) -> None:
    owner.sandbox.fault("duplicate_callback", vendor="runflow", copies=3)
    owner.create(order(callback_url=receiver.url))
    assert len({callback.body for callback in receiver.wait(3)}) == 1


def test_mischief_forged_callback_lies_under_a_wrong_signature(owner: Owner, receiver: Receiver) -> None:
    secret = a_secret(owner)
    owner.sandbox.fault("forged_callback", vendor="runflow")
    owner.create(order(callback_url=receiver.url))
    forged, genuine = receiver.wait(2)
    assert (forged.json()["status"], genuine.json()["status"]) == ("failed", "succeeded")
    assert forged.headers["runflow-signature"] != signature(secret, forged.body)
    assert genuine.headers["runflow-signature"] == signature(secret, genuine.body)


def test_inline_output_stands_in_the_callback_and_in_the_first_read(owner: Owner, receiver: Receiver) -> None:
    run_id = owner.create(order(sync_mode=True, callback_url=receiver.url)).json()["id"]
    told = receiver.wait()[0].json()["output"]["outputs"][0]["url"]
    assert told.startswith("data:image/png;base64,")
    assert owner.get(run_id)["output"]["outputs"][0]["url"] == told
    assert owner.get(run_id)["output"] is None
