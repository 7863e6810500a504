"""RunAPI's tasks, keys and faults over real sockets, beyond what its SDK shows."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.sandbox.runapi_client import ORDER_BODY, RunapiClient, fetch_image_size


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/v1/gpt_image_2/text_to_image"),
        ("DELETE", "/api/v1/gpt_image_2/text_to_image/1"),
        ("POST", "/api/v1/gpt_image_2/upscale"),
        ("POST", "/api/v1/gpt-image-2/text_to_image"),
        ("GET", "/api/v1/gpt_image_2/00000000-0000-4000-8000-000000000000"),
        ("PUT", "/api/v1/files"),
        ("POST", "/api/v1/me"),
    ],
)
def test_unknown_routes_are_not_found(runapi_client: RunapiClient, method: str, path: str) -> None:
    answer = runapi_client.request(method, path)
    assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})
    assert answer.headers["content-type"] == "application/json"
    assert uuid.UUID(answer.headers["x-request-id"])


def test_task_is_found_only_at_its_own_url(runapi_client: RunapiClient) -> None:
    task_id = runapi_client.run_generation()["id"]
    for path in (f"gpt_image_2/{task_id}", f"gpt_image_2/edit_image/{task_id}", f"tasks/{task_id}"):
        assert runapi_client.request("GET", f"/api/v1/{path}").status_code == 404, path


@pytest.mark.parametrize(
    "key", ["", "Bearer", "Bearer sk-other", "Bearer rf_sandbox", "Basic sk-sandbox", "sk-sandbox"]
)
def test_invalid_api_key_is_unauthorized(sandbox: RunningSandbox, runapi_client: RunapiClient, key: str) -> None:
    task_id = runapi_client.create_task().json()["id"]
    for method, path in (
        ("POST", "gpt_image_2/text_to_image"),
        ("POST", "gpt_image_2/edit_image"),
        ("GET", f"gpt_image_2/text_to_image/{task_id}"),
        ("POST", "files"),
        ("POST", "files/prepare"),
        ("POST", "files/confirm"),
        ("GET", "me"),
        ("GET", "me/balance"),
    ):
        answer = runapi_client.request(method, f"/api/v1/{path}", headers={"authorization": key})
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"}), path
    assert len(sandbox.list_charges("runapi")) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"prompt": "\xff"}', b"[" * 50_000])
def test_body_that_is_not_a_json_object_is_a_bad_request(runapi_client: RunapiClient, body: bytes) -> None:
    answer = runapi_client.request("POST", "/api/v1/gpt_image_2/text_to_image", content=body)
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


def test_all_invalid_fields_are_reported_at_once(runapi_client: RunapiClient) -> None:
    answer = runapi_client.create_task("edit_image", model="dall-e-2", prompt=None, aspect_ratio="5:7")
    assert answer.status_code == 422
    assert answer.json()["error"] == "Validation failed"
    assert answer.json()["errors"].keys() == {"model", "prompt", "aspect_ratio", "source_image_urls"}


@pytest.mark.parametrize("fields", [{"prompt": 7}, {"prompt": ["a cat"]}, {"callback_url": 7}, {"aspect_ratio": 1}])
def test_field_of_a_wrong_type_is_rejected(runapi_client: RunapiClient, fields: dict[str, object]) -> None:
    refusal = runapi_client.create_task(**fields)
    assert (refusal.status_code, refusal.json()["errors"].keys()) == (422, fields.keys())


def test_responses_name_the_task_and_the_client_request_id(runapi_client: RunapiClient) -> None:
    request_headers = {"x-client-request-id": "job-17"}
    created = runapi_client.request(
        "POST", "/api/v1/gpt_image_2/text_to_image", json=ORDER_BODY, headers=request_headers
    )
    polled = runapi_client.request(
        "GET", f"/api/v1/gpt_image_2/text_to_image/{created.json()['id']}", headers=request_headers
    )
    for answer in (created, polled):
        assert answer.headers["x-runapi-task-id"] == created.json()["id"]
        assert answer.headers["x-client-request-id"] == "job-17"
        assert answer.headers["content-type"] == "application/json"
    assert created.headers["x-request-id"] != polled.headers["x-request-id"]


def test_injected_refusal_looks_like_the_vendors_own(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.inject_fault("refuse", vendor="runapi", status=503, times=1)
    answer = runapi_client.create_task()
    assert (answer.status_code, answer.json()) == (503, {"error": "No active channel available"})
    assert "x-request-id" in answer.headers


def test_finished_task_never_changes(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    task = runapi_client.run_generation()
    with sandbox.override_switches("runapi", link_seconds=60):
        assert all(runapi_client.poll_task(task["id"]).json() == task for _ in range(3))
    assert task.keys() == {"id", "status", "images", "usage"}


def test_status_never_goes_back(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    """The status does not go back when a task waits for another one, either."""
    order = ["pending", "processing", "completed"]
    sandbox.set_latency(0.3, vendor="runapi")
    with sandbox.override_switches("runapi", create_status="pending", concurrency=1):
        runapi_client.create_task()
        sandbox.hold_orders(vendor="runapi")
        waiting = runapi_client.create_task().json()
        seen = [waiting["status"]]

        def poll() -> None:
            seen.append(runapi_client.poll_task(waiting["id"]).json()["status"])

        wait_until(lambda: seen[-1] == "processing", "the task is processed", poll)
        sandbox.release_orders()
        wait_until(lambda: seen[-1] == "completed", "the task has completed", poll)
    assert set(seen) == set(order)
    assert seen == sorted(seen, key=order.index)


def test_concurrent_duplicates_create_one_task_and_one_charge(
    sandbox: RunningSandbox, runapi_client: RunapiClient
) -> None:
    """The source is slow, so that all requests are in progress at once."""
    image_url = runapi_client.request("POST", "/api/v1/files", json=_build_sample_source(sandbox)).json()["url"]
    sandbox.inject_fault("slow", vendor="runapi", route="download", seconds=0.3)
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(
                lambda _: runapi_client.create_task("edit_image", key="order-1", source_image_urls=[image_url]).json(),
                range(12),
            )
        )
    assert len({answer["id"] for answer in answers}) == 1
    assert sum("task_replayed" not in answer for answer in answers) == 1
    assert len(sandbox.list_requests("runapi", "download")) == 1
    assert [charge["id"] for charge in sandbox.list_charges("runapi")] == [answers[0]["id"]]


def _build_sample_source(sandbox: RunningSandbox) -> dict[str, object]:
    return {"source": {"type": "url", "url": f"{sandbox.url}/_/sample.png?w=64&h=64"}}


def test_replay_has_the_current_status_and_no_result(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.hold_orders(vendor="runapi")
    first = runapi_client.create_task(key="order-1")
    assert runapi_client.create_task(key="order-1").json() == {**first.json(), "task_replayed": True}
    sandbox.release_orders()
    runapi_client.wait_until_finished(first)
    replay = runapi_client.create_task(key="order-1")
    assert replay.json() == {"id": first.json()["id"], "status": "completed", "task_replayed": True}
    assert replay.status_code == first.status_code


def test_failed_task_is_replayed(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.inject_fault("fail", vendor="runapi", times=1)
    first = runapi_client.create_task(key="order-1").json()
    replay = runapi_client.create_task(key="order-1").json()
    assert (replay["id"], replay["status"]) == (first["id"], "failed")
    assert sandbox.list_charges("runapi") == []


def test_idempotency_key_belongs_to_one_action(runapi_client: RunapiClient) -> None:
    runapi_client.create_task(key="order-1")
    assert runapi_client.create_task("edit_image", key="order-1").status_code == 409


def test_rejected_order_does_not_use_its_key(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.set_balance("runapi", "0")
    assert runapi_client.create_task(key="order-1").status_code == 402
    sandbox.set_balance("runapi", "1")
    assert runapi_client.create_task(key="order-1", prompt=None).status_code == 422
    answer = runapi_client.create_task(key="order-1")
    assert answer.status_code == 200
    assert "task_replayed" not in answer.json()


def test_too_long_keys_and_references_are_rejected(runapi_client: RunapiClient) -> None:
    for name in ("Idempotency-Key", "X-Client-Request-Id"):
        for characters, status in ((512, 200), (513, 400)):
            answer = runapi_client.request(
                "POST", "/api/v1/gpt_image_2/text_to_image", json=ORDER_BODY, headers={name: "k" * characters}
            )
            assert answer.status_code == status, (name, characters)


def test_ignored_idempotency_key_charges_a_replay_again(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    first = runapi_client.create_task(key="order-1").json()
    sandbox.inject_fault("ignore_idempotency_key", vendor="runapi", times=1)
    other = runapi_client.create_task(key="order-2").json()
    second = runapi_client.create_task(key="order-1").json()
    third = runapi_client.create_task(key="order-1").json()
    assert len({first["id"], other["id"], second["id"]}) == 3
    assert "task_replayed" not in second
    assert (third["id"], third["task_replayed"]) == (first["id"], True)
    assert [charge["idempotency_key"] for charge in sandbox.list_charges("runapi")] == ["order-1", "order-2", "order-1"]


def test_running_order_reserves_money_and_failed_order_releases_it(
    sandbox: RunningSandbox, runapi_client: RunapiClient
) -> None:
    sandbox.set_balance("runapi", "0.10")
    sandbox.hold_orders(vendor="runapi")
    sandbox.inject_fault("fail", vendor="runapi", times=1)
    running = runapi_client.create_task()
    assert runapi_client.create_task().status_code == 402
    sandbox.release_orders()
    runapi_client.wait_until_finished(running)
    assert runapi_client.run_generation()["status"] == "completed"
    assert runapi_client.create_task().status_code == 402
    assert runapi_client.request("GET", "/api/v1/me/balance").json()["balance_cents"] == 4


def test_rejected_order_uses_up_no_fault_rule(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    """A rule with `times: 1` applies to the next order that is accepted."""
    sandbox.inject_fault("fail", vendor="runapi", times=1)
    sandbox.set_balance("runapi", "0")
    assert runapi_client.create_task().status_code == 402
    sandbox.set_balance("runapi", "1")
    assert runapi_client.create_task(model="other").status_code == 422
    assert runapi_client.run_generation()["status"] == "failed"


@pytest.mark.parametrize("kind", ["fail", "refuse_content", "partial"])
def test_failed_order_has_an_error_and_is_not_charged(
    sandbox: RunningSandbox, runapi_client: RunapiClient, kind: str
) -> None:
    sandbox.inject_fault(kind, vendor="runapi", times=1)
    task = runapi_client.run_generation()
    assert task.keys() == {"id", "status", "error"}
    assert (task["status"], type(task["error"])) == ("failed", str)
    assert sandbox.list_charges("runapi") == []
    assert runapi_client.run_generation()["status"] == "completed"


def test_stuck_order_stays_in_progress_and_keeps_its_reservation(
    sandbox: RunningSandbox, runapi_client: RunapiClient
) -> None:
    sandbox.inject_fault("stuck", vendor="runapi", times=1)
    task = runapi_client.create_task().json()
    assert runapi_client.run_generation()["status"] == "completed"
    assert runapi_client.poll_task(task["id"]).json() == {"id": task["id"], "status": "processing"}
    assert sandbox.call_control_route("GET", "/balance")["runapi"]["reserved_usd"] == "0.06"


def test_success_without_images_is_charged(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.inject_fault("empty_outputs", vendor="runapi", times=1)
    task = runapi_client.run_generation()
    assert (task["status"], task["images"], task["usage"]["cost"]) == ("completed", [], 0.06)
    assert sandbox.sum_charges_usd("runapi") == Decimal("0.06")


def test_half_size_image_costs_the_full_price(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.inject_fault("half_size", vendor="runapi", times=1)
    task = runapi_client.run_generation(aspect_ratio="1:1", output_resolution="2k")
    assert fetch_image_size(task["images"][0]["url"]) == (1024, 1024)
    assert task["usage"]["cost"] == 0.10


def test_polling_is_free_and_a_failed_poll_changes_nothing(
    sandbox: RunningSandbox, runapi_client: RunapiClient
) -> None:
    task = runapi_client.run_generation()
    sandbox.inject_fault("status", vendor="runapi", route="poll", status=502, times=1)
    assert runapi_client.poll_task(task["id"]).status_code == 502
    assert runapi_client.poll_task(task["id"]).json() == task
    assert len(sandbox.list_charges("runapi")) == 1


def test_latency_can_be_set_per_tier(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.set_latency(30, vendor="runapi", quality="4k")
    slow = runapi_client.create_task(aspect_ratio="3:2", output_resolution="4k").json()
    assert runapi_client.run_generation(aspect_ratio="3:2", output_resolution="2k")["status"] == "completed"
    assert runapi_client.poll_task(slow["id"]).json()["status"] == "processing"


def test_reset_clears_tasks_and_keys(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    task = runapi_client.create_task(key="order-1").json()
    sandbox.reset()
    assert runapi_client.poll_task(task["id"]).status_code == 404
    assert "task_replayed" not in runapi_client.create_task(key="order-1").json()
