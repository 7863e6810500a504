"""RunAPI's switches, and prices, which must be consistent under every switch."""

from decimal import Decimal
from typing import Any

import pytest

from sandbox.runapi.order_rules import RATIOS, compute_size
from tests.harness.sandbox_runner import RunningSandbox
from tests.sandbox.runapi_client import ORDER_BODY, RunapiClient

PIXELS_BY_TIER = {"1k": (655_360, 1_572_864), "2k": (1_572_865, 4_194_304), "4k": (4_194_305, 8_294_400)}
ACTIONS = ("text_to_image", "edit_image")


@pytest.mark.parametrize(
    "fields",
    [
        {"aspect_ratio": "1:1", "output_resolution": "4k"},
        {"aspect_ratio": "auto", "output_resolution": "2k"},
        {"aspect_ratio": "auto", "output_resolution": "4k"},
        {"output_resolution": "2k"},
        {"output_resolution": "4k"},
    ],
)
def test_forbidden_ratio_and_resolution_is_rejected_or_fails(
    sandbox: RunningSandbox, runapi_client: RunapiClient, fields: dict[str, str]
) -> None:
    refusal = runapi_client.create_task(**fields)
    assert (refusal.status_code, list(refusal.json()["errors"])) == (422, ["output_resolution"])
    with sandbox.override_switches("runapi", forbidden_ratio_response="failed_task"):
        task = runapi_client.run_generation(**fields)
    assert task["status"] == "failed"
    assert "not supported" in task["error"]
    assert sandbox.list_charges("runapi") == []


def test_unknown_fields_are_ignored_or_rejected(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    extras = {"n": 4, "quality": "low", "mask_url": "https://example.com/m.png"}
    assert len(runapi_client.run_generation(**extras)["images"]) == 1
    with sandbox.override_switches("runapi", unknown_fields="refused"):
        refusal = runapi_client.create_task(**extras)
        assert (
            runapi_client.create_task("text_to_image", source_image_urls=["https://example.com/a.png"]).status_code
            == 422
        )
        assert runapi_client.run_generation(callback_url=None)["status"] == "completed"
    assert (refusal.status_code, refusal.json()["errors"].keys()) == (422, extras.keys())


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_new_task_is_pending_or_processing(sandbox: RunningSandbox, runapi_client: RunapiClient, status: str) -> None:
    sandbox.set_latency(30, vendor="runapi")
    with sandbox.override_switches("runapi", create_status=status):
        assert runapi_client.create_task().json()["status"] == status


@pytest.mark.parametrize("code", [200, 201, 202])
def test_create_returns_the_configured_status_code(
    sandbox: RunningSandbox, runapi_client: RunapiClient, code: int
) -> None:
    with sandbox.override_switches("runapi", create_code=code):
        created, replayed = runapi_client.create_task(key="order-1"), runapi_client.create_task(key="order-1")
        assert created.status_code == replayed.status_code == code
        assert ("location" in created.headers) is (code == 202)
        if code == 202:
            status_body = sandbox.http.get(
                created.headers["location"], headers={"authorization": "Bearer sk-sandbox"}
            ).json()
            assert status_body["response"]["body"] == runapi_client.poll_task(created.json()["id"]).json()


@pytest.mark.parametrize(
    ("style", "plain", "fields"),
    [
        ("plain", {"error": "Not found"}, {"error": "Validation failed"}),
        (
            "nested",
            {"error": {"code": "not_found", "message": "Not found"}},
            {"error": {"code": "validation_failed", "message": "Validation failed"}},
        ),
        (
            "top_level_code",
            {"error": "Not found", "code": "not_found"},
            {"error": "Validation failed", "code": "validation_failed"},
        ),
    ],
)
def test_error_body_switch_places_the_error_code(
    sandbox: RunningSandbox, runapi_client: RunapiClient, style: str, plain: dict[str, Any], fields: dict[str, Any]
) -> None:
    with sandbox.override_switches("runapi", error_body=style):
        assert runapi_client.poll_task("unknown").json() == plain
        assert runapi_client.create_task(prompt="").json() == fields | {"errors": {"prompt": ["is required"]}}


def test_content_refusal_is_a_failed_task_or_a_422(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.inject_fault("refuse_content", vendor="runapi", times=2)
    assert "safety" in runapi_client.run_generation()["error"]
    with sandbox.override_switches("runapi", content_refusal="refused"):
        refusal = runapi_client.create_task()
    assert (refusal.status_code, list(refusal.json()["errors"])) == (422, ["prompt"])
    assert sandbox.list_charges("runapi") == []


def test_replay_is_compared_by_input_or_by_bytes(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    def post_body(body: str) -> int:
        path, headers = "/api/v1/gpt_image_2/text_to_image", {"idempotency-key": "order-1"}
        return runapi_client.request("POST", path, content=body, headers=headers).status_code

    compact, reordered = '{"model":"gpt-image-2","prompt":"a cat"}', '{"prompt": "a cat", "model": "gpt-image-2"}'
    assert [post_body(compact), post_body(reordered)] == [200, 200]
    sandbox.reset()
    with sandbox.override_switches("runapi", replay_compares="bytes"):
        assert [post_body(compact), post_body(reordered), post_body(compact)] == [200, 409, 200]
    assert len(sandbox.list_charges("runapi")) == 1


def test_replay_returns_a_ticket_or_the_whole_task(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    task = runapi_client.run_generation(key="order-1")
    assert runapi_client.create_task(key="order-1").json().keys() == {"id", "status", "task_replayed"}
    with sandbox.override_switches("runapi", replay_answer="task"):
        assert runapi_client.create_task(key="order-1").json() == task | {"task_replayed": True}


def test_polls_of_running_tasks_have_retry_after(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.hold_orders(vendor="runapi")
    with sandbox.override_switches("runapi", poll_retry_after=1.5):
        created = runapi_client.create_task()
        assert runapi_client.poll_task(created.json()["id"]).headers["retry-after"] == "1.5"
        sandbox.release_orders()
        runapi_client.wait_until_finished(created)
        assert "retry-after" not in runapi_client.poll_task(created.json()["id"]).headers
    assert "retry-after" not in runapi_client.poll_task(runapi_client.create_task().json()["id"]).headers


def test_tasks_wait_for_a_free_slot(sandbox: RunningSandbox, runapi_client: RunapiClient) -> None:
    sandbox.set_latency(0.2, vendor="runapi")
    with sandbox.override_switches("runapi", concurrency=1):
        first = runapi_client.create_task()
        sandbox.hold_orders(vendor="runapi")
        second = runapi_client.create_task()
        runapi_client.wait_until_finished(first)
        assert runapi_client.poll_task(second.json()["id"]).json()["status"] == "processing"
        sandbox.release_orders()
        assert runapi_client.wait_until_finished(second)["status"] == "completed"


@pytest.mark.parametrize(("switch", "edit_cents"), [("by_resolution", [6, 10, 16]), ("flat", [16, 16, 16])])
def test_schedules_quotes_charges_and_costs_agree(
    sandbox: RunningSandbox, runapi_client: RunapiClient, switch: str, edit_cents: list[int]
) -> None:
    cents = {"text_to_image": [6, 10, 16], "edit_image": edit_cents}
    source = f"{sandbox.url}/_/sample.png?w=64&h=64"
    with sandbox.override_switches("runapi", edit_price=switch):
        for action in ACTIONS:
            for tier, price in zip(PIXELS_BY_TIER, cents[action], strict=True):
                assert (
                    get_scheduled_cents(runapi_client, action, tier)
                    == get_quoted_cents(runapi_client, action, tier)
                    == price
                )
                order = {"aspect_ratio": "3:2", "output_resolution": tier, "source_image_urls": [source]}
                task = runapi_client.wait_until_finished(runapi_client.create_task(action, **order), action)
                assert Decimal(str(task["usage"]["cost"])) * 100 == price
                assert sandbox.list_charges("runapi")[-1]["usd_micros"] == price * 10_000


def get_scheduled_cents(runapi_client: RunapiClient, action: str, tier: str) -> int:
    listed = runapi_client.request("GET", "/api/v1/price_schedules", params={"action": action}).json()[
        "price_schedules"
    ]
    assert [schedule["action"] for schedule in listed] == [action]
    overrides = (listed[0]["billing_config"] or {"overrides": {}})["overrides"]
    return int(overrides.get(tier, listed[0]["unit_price_cents"]))


def get_quoted_cents(runapi_client: RunapiClient, action: str, tier: str) -> int:
    body = {"service": "gpt-image-2", "action": action, "model": "gpt-image-2", "params": {"output_resolution": tier}}
    quote = runapi_client.sandbox.http.post("/runapi/api/v1/price_quotes", json=body).json()["price_quote"]
    assert (quote["service"], quote["action"], quote["currency"]) == ("gpt_image_2", action, "USD")
    return int(quote["reservation_amount_cents"])


def test_schedules_are_filtered_and_unknown_quotes_rejected(runapi_client: RunapiClient) -> None:
    def list_schedules(**filters: str) -> list[dict[str, Any]]:
        answer = runapi_client.sandbox.http.get("/runapi/api/v1/price_schedules", params=filters)
        return list(answer.json()["price_schedules"])

    assert [schedule["action"] for schedule in list_schedules()] == list(ACTIONS)
    assert len(list_schedules(service="gpt-image-2", model="gpt-image-2")) == 2
    assert list_schedules(service="flux_kontext") == []
    body = {"service": "other", "action": "upscale", "model": "other", "params": {"output_resolution": "8k"}}
    refusal = runapi_client.sandbox.http.post("/runapi/api/v1/price_quotes", json=body)
    assert (refusal.status_code, refusal.json()["errors"].keys()) == (422, body.keys())
    assert (
        runapi_client.sandbox.http.post("/runapi/api/v1/price_quotes", json=ORDER_BODY | {"params": []}).status_code
        == 422
    )


@pytest.mark.parametrize("tier", PIXELS_BY_TIER)
def test_every_ratio_has_a_legal_size_in_every_tier(tier: str) -> None:
    assert len(RATIOS) == 15
    for name, ratio in RATIOS.items():
        width, height = compute_size(ratio, tier)
        across, down = map(int, name.split(":"))
        assert width % 16 == height % 16 == 0, name
        assert width / height == pytest.approx(across / down, rel=0.02), name
        assert PIXELS_BY_TIER[tier][0] <= width * height <= PIXELS_BY_TIER[tier][1], name
        assert max(width, height) <= min(3840, 3 * min(width, height)), name


@pytest.mark.parametrize("ratio", [0.05, 0.34, 0.77, 1.01, 1.9, 2.99, 20])
def test_any_source_ratio_has_a_legal_size(ratio: float) -> None:
    width, height = compute_size(ratio, "1k")
    assert PIXELS_BY_TIER["1k"][0] <= width * height <= PIXELS_BY_TIER["1k"][1]
    assert width / height == pytest.approx(min(3.0, max(1 / 3, ratio)), rel=0.02)
