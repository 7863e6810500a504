"""RunAPI's tasks, keys and faults over real sockets: what its SDK does not let anybody see."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from tests.sandbox.runapi_buyer import ORDER, Buyer, size_of
from tests.vendors import Vendors


@pytest.fixture
def buyer(sandbox: Vendors) -> Buyer:
    return Buyer(sandbox)


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
def test_there_are_no_other_routes(buyer: Buyer, method: str, path: str) -> None:
    answer = buyer.request(method, path)
    assert (answer.status_code, answer.json()) == (404, {"error": "Not found"})
    assert answer.headers["content-type"] == "application/json"
    assert uuid.UUID(answer.headers["x-request-id"])


def test_a_task_has_no_other_address(buyer: Buyer) -> None:
    task_id = buyer.generate()["id"]
    for path in (f"gpt_image_2/{task_id}", f"gpt_image_2/edit_image/{task_id}", f"tasks/{task_id}"):
        assert buyer.request("GET", f"/api/v1/{path}").status_code == 404, path


@pytest.mark.parametrize(
    "key", ["", "Bearer", "Bearer sk-other", "Bearer rf_sandbox", "Basic sk-sandbox", "sk-sandbox"]
)
def test_only_one_key_opens_the_shop(sandbox: Vendors, buyer: Buyer, key: str) -> None:
    task_id = buyer.create().json()["id"]
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
        answer = buyer.request(method, f"/api/v1/{path}", headers={"authorization": key})
        assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized"}), path
    assert len(sandbox.charges("runapi")) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"prompt": "\xff"}', b"[" * 50_000])
def test_a_body_that_is_no_json_object_is_a_bad_request(buyer: Buyer, body: bytes) -> None:
    answer = buyer.request("POST", "/api/v1/gpt_image_2/text_to_image", content=body)
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


def test_every_wrong_field_is_named_at_once(buyer: Buyer) -> None:
    answer = buyer.create("edit_image", model="dall-e-2", prompt=None, aspect_ratio="5:7")
    assert answer.status_code == 422
    assert answer.json()["error"] == "Validation failed"
    assert answer.json()["errors"].keys() == {"model", "prompt", "aspect_ratio", "source_image_urls"}


@pytest.mark.parametrize("fields", [{"prompt": 7}, {"prompt": ["a cat"]}, {"callback_url": 7}, {"aspect_ratio": 1}])
def test_a_field_of_another_type_is_refused(buyer: Buyer, fields: dict[str, object]) -> None:
    refusal = buyer.create(**fields)
    assert (refusal.status_code, refusal.json()["errors"].keys()) == (422, fields.keys())


def test_every_answer_about_a_task_names_it_and_its_callers_reference(buyer: Buyer) -> None:
    asked = {"x-client-request-id": "job-17"}
    created = buyer.request("POST", "/api/v1/gpt_image_2/text_to_image", json=ORDER, headers=asked)
    polled = buyer.request("GET", f"/api/v1/gpt_image_2/text_to_image/{created.json()['id']}", headers=asked)
    for answer in (created, polled):
        assert answer.headers["x-runapi-task-id"] == created.json()["id"]
        assert answer.headers["x-client-request-id"] == "job-17"
        assert answer.headers["content-type"] == "application/json"
    assert created.headers["x-request-id"] != polled.headers["x-request-id"]


def test_a_staged_refusal_looks_like_the_vendors_own(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.fault("refuse", vendor="runapi", status=503, times=1)
    answer = buyer.create()
    assert (answer.status_code, answer.json()) == (503, {"error": "No active channel available"})
    assert "x-request-id" in answer.headers


def test_a_finished_task_reads_the_same_for_ever(sandbox: Vendors, buyer: Buyer) -> None:
    task = buyer.generate()
    with sandbox.switched("runapi", link_seconds=60):
        assert all(buyer.poll(task["id"]).json() == task for _ in range(3))
    assert task.keys() == {"id", "status", "images", "usage"}


def test_a_status_never_goes_back(sandbox: Vendors, buyer: Buyer) -> None:
    """Also when a task has to wait for another one."""
    order = ["pending", "processing", "completed"]
    sandbox.latency(0.3, vendor="runapi")
    with sandbox.switched("runapi", create_status="pending", concurrency=1):
        buyer.create()
        waiting = buyer.create().json()
        seen = [waiting["status"]]
        while seen[-1] != "completed":
            seen.append(buyer.poll(waiting["id"]).json()["status"])
            time.sleep(0.01)
    assert set(seen) == set(order)
    assert seen == sorted(seen, key=order.index)


def test_concurrent_duplicates_become_one_task_and_one_charge(sandbox: Vendors, buyer: Buyer) -> None:
    """The source takes its time, so that all of them are under way together."""
    link = buyer.request("POST", "/api/v1/files", json=_sample_source(sandbox)).json()["url"]
    sandbox.fault("slow", vendor="runapi", route="download", seconds=0.3)
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda _: buyer.create("edit_image", key="order-1", source_image_urls=[link]).json(), range(12))
        )
    assert len({answer["id"] for answer in answers}) == 1
    assert sum("task_replayed" not in answer for answer in answers) == 1
    assert len(sandbox.requests("runapi", "download")) == 1
    assert [charge["id"] for charge in sandbox.charges("runapi")] == [answers[0]["id"]]


def _sample_source(sandbox: Vendors) -> dict[str, object]:
    return {"source": {"type": "url", "url": f"{sandbox.url}/_/sample.png?w=64&h=64"}}


def test_a_replay_shows_the_tasks_present_status_and_no_result(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.latency(0.2, vendor="runapi")
    first = buyer.create(key="order-1")
    assert buyer.create(key="order-1").json() == {**first.json(), "task_replayed": True}
    buyer.finished(first)
    replay = buyer.create(key="order-1")
    assert replay.json() == {"id": first.json()["id"], "status": "completed", "task_replayed": True}
    assert replay.status_code == first.status_code


def test_a_failed_task_is_replayed_as_well(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.fault("fail", vendor="runapi", times=1)
    first = buyer.create(key="order-1").json()
    replay = buyer.create(key="order-1").json()
    assert (replay["id"], replay["status"]) == (first["id"], "failed")
    assert sandbox.charges("runapi") == []


def test_a_key_serves_one_action_only(buyer: Buyer) -> None:
    buyer.create(key="order-1")
    assert buyer.create("edit_image", key="order-1").status_code == 409


def test_a_refused_order_leaves_its_key_free(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.balance("runapi", "0")
    assert buyer.create(key="order-1").status_code == 402
    sandbox.balance("runapi", "1")
    assert buyer.create(key="order-1", prompt=None).status_code == 422
    answer = buyer.create(key="order-1")
    assert answer.status_code == 200
    assert "task_replayed" not in answer.json()


def test_keys_and_references_have_a_limited_length(buyer: Buyer) -> None:
    for name in ("Idempotency-Key", "X-Client-Request-Id"):
        for characters, status in ((512, 200), (513, 400)):
            answer = buyer.request(
                "POST", "/api/v1/gpt_image_2/text_to_image", json=ORDER, headers={name: "k" * characters}
            )
            assert answer.status_code == status, (name, characters)


def test_a_vendor_that_ignores_keys_sells_a_replay_again(sandbox: Vendors, buyer: Buyer) -> None:
    first = buyer.create(key="order-1").json()
    sandbox.fault("ignore_idempotency_key", vendor="runapi", times=1)
    other = buyer.create(key="order-2").json()
    second = buyer.create(key="order-1").json()
    third = buyer.create(key="order-1").json()
    assert len({first["id"], other["id"], second["id"]}) == 3
    assert "task_replayed" not in second
    assert (third["id"], third["task_replayed"]) == (first["id"], True)
    assert [charge["idempotency_key"] for charge in sandbox.charges("runapi")] == ["order-1", "order-2", "order-1"]


def test_a_running_order_reserves_and_a_failed_one_gives_back(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.balance("runapi", "0.10")
    sandbox.latency(0.4, vendor="runapi")
    sandbox.fault("fail", vendor="runapi", times=1)
    running = buyer.create()
    assert buyer.create().status_code == 402
    buyer.finished(running)
    assert buyer.generate()["status"] == "completed"
    assert buyer.create().status_code == 402
    assert buyer.request("GET", "/api/v1/me/balance").json()["balance_cents"] == 4


def test_a_refused_order_spends_no_fault(sandbox: Vendors, buyer: Buyer) -> None:
    """A fault that is to strike once strikes the next order that is really taken."""
    sandbox.fault("fail", vendor="runapi", times=1)
    sandbox.balance("runapi", "0")
    assert buyer.create().status_code == 402
    sandbox.balance("runapi", "1")
    assert buyer.create(model="other").status_code == 422
    assert buyer.generate()["status"] == "failed"


@pytest.mark.parametrize("kind", ["fail", "refuse_content", "partial"])
def test_an_order_that_fails_has_a_text_and_is_not_charged(sandbox: Vendors, buyer: Buyer, kind: str) -> None:
    sandbox.fault(kind, vendor="runapi", times=1)
    task = buyer.generate()
    assert task.keys() == {"id", "status", "error"}
    assert (task["status"], type(task["error"])) == ("failed", str)
    assert sandbox.charges("runapi") == []
    assert buyer.generate()["status"] == "completed"


def test_an_order_stuck_stays_in_progress_and_keeps_its_reservation(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.fault("stuck", vendor="runapi", times=1)
    task = buyer.create().json()
    assert buyer.generate()["status"] == "completed"
    assert buyer.poll(task["id"]).json() == {"id": task["id"], "status": "processing"}
    assert sandbox.control("GET", "/balance")["runapi"]["reserved_usd"] == "0.06"


def test_an_empty_success_is_charged(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.fault("empty_outputs", vendor="runapi", times=1)
    task = buyer.generate()
    assert (task["status"], task["images"], task["usage"]["cost"]) == ("completed", [], 0.06)
    assert sandbox.charged_usd("runapi") == Decimal("0.06")


def test_a_downgraded_picture_is_smaller_at_the_full_price(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.fault("downgrade", vendor="runapi", times=1)
    task = buyer.generate(aspect_ratio="1:1", output_resolution="2k")
    assert size_of(task["images"][0]["url"]) == (1024, 1024)
    assert task["usage"]["cost"] == 0.10


def test_polling_costs_nothing_and_a_broken_poll_harms_no_task(sandbox: Vendors, buyer: Buyer) -> None:
    task = buyer.generate()
    sandbox.fault("status", vendor="runapi", route="poll", status=502, times=1)
    assert buyer.poll(task["id"]).status_code == 502
    assert buyer.poll(task["id"]).json() == task
    assert len(sandbox.charges("runapi")) == 1


def test_each_tier_may_have_a_latency_of_its_own(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.latency(30, vendor="runapi", quality="4k")
    slow = buyer.create(aspect_ratio="3:2", output_resolution="4k").json()
    assert buyer.generate(aspect_ratio="3:2", output_resolution="2k")["status"] == "completed"
    assert buyer.poll(slow["id"]).json()["status"] == "processing"


def test_a_reset_forgets_every_task_and_key(sandbox: Vendors, buyer: Buyer) -> None:
    task = buyer.create(key="order-1").json()
    sandbox.reset()
    assert buyer.poll(task["id"]).status_code == 404
    assert "task_replayed" not in buyer.create(key="order-1").json()
