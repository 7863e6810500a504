"""Each disputed reading of RunAPI's page, switched; and prices, which every reading must get right."""

from decimal import Decimal
from typing import Any

import pytest

from sandbox.runapi_terms import RATIOS, size
from tests.sandbox.runapi_buyer import ORDER, Buyer
from tests.vendors import Vendors

TIERS = {"1k": (655_360, 1_572_864), "2k": (1_572_865, 4_194_304), "4k": (4_194_305, 8_294_400)}
ACTIONS = ("text_to_image", "edit_image")


@pytest.fixture
def buyer(sandbox: Vendors) -> Buyer:
    return Buyer(sandbox)


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
def test_a_forbidden_pair_is_refused_or_fails(sandbox: Vendors, buyer: Buyer, fields: dict[str, str]) -> None:
    refusal = buyer.create(**fields)
    assert (refusal.status_code, list(refusal.json()["errors"])) == (422, ["output_resolution"])
    with sandbox.switched("runapi", forbidden_ratio="failed_task"):
        task = buyer.generate(**fields)
    assert task["status"] == "failed"
    assert "not supported" in task["error"]
    assert sandbox.charges("runapi") == []


def test_unknown_fields_are_ignored_or_refused(sandbox: Vendors, buyer: Buyer) -> None:
    extras = {"n": 4, "quality": "low", "mask_url": "https://example.com/m.png"}
    assert len(buyer.generate(**extras)["images"]) == 1
    with sandbox.switched("runapi", unknown_fields="refused"):
        refusal = buyer.create(**extras)
        assert buyer.create("text_to_image", source_image_urls=["https://example.com/a.png"]).status_code == 422
        assert buyer.generate(callback_url=None)["status"] == "completed"
    assert (refusal.status_code, refusal.json()["errors"].keys()) == (422, extras.keys())


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_a_new_task_is_pending_or_processing(sandbox: Vendors, buyer: Buyer, status: str) -> None:
    sandbox.latency(30, vendor="runapi")
    with sandbox.switched("runapi", create_status=status):
        assert buyer.create().json()["status"] == status


@pytest.mark.parametrize("code", [200, 201, 202])
def test_a_create_answers_with_the_chosen_code(sandbox: Vendors, buyer: Buyer, code: int) -> None:
    with sandbox.switched("runapi", create_code=code):
        created, replayed = buyer.create(key="order-1"), buyer.create(key="order-1")
        assert created.status_code == replayed.status_code == code
        assert ("location" in created.headers) is (code == 202)
        if code == 202:
            told = sandbox.http.get(created.headers["location"], headers={"authorization": "Bearer sk-sandbox"}).json()
            assert told["response"]["body"] == buyer.poll(created.json()["id"]).json()


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
def test_errors_carry_their_code_where_the_switch_says(
    sandbox: Vendors, buyer: Buyer, style: str, plain: dict[str, Any], fields: dict[str, Any]
) -> None:
    with sandbox.switched("runapi", error_body=style):
        assert buyer.poll("unknown").json() == plain
        assert buyer.create(prompt="").json() == fields | {"errors": {"prompt": ["is required"]}}


def test_a_refusal_of_content_is_a_failed_task_or_a_422(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.fault("refuse_content", vendor="runapi", times=2)
    assert "safety" in buyer.generate()["error"]
    with sandbox.switched("runapi", content_refusal="refused"):
        refusal = buyer.create()
    assert (refusal.status_code, list(refusal.json()["errors"])) == (422, ["prompt"])
    assert sandbox.charges("runapi") == []


def test_a_replay_is_compared_by_input_or_by_bytes(sandbox: Vendors, buyer: Buyer) -> None:
    def sent(body: str) -> int:
        path, headers = "/api/v1/gpt_image_2/text_to_image", {"idempotency-key": "order-1"}
        return buyer.request("POST", path, content=body, headers=headers).status_code

    one, other = '{"model":"gpt-image-2","prompt":"a cat"}', '{"prompt": "a cat", "model": "gpt-image-2"}'
    assert [sent(one), sent(other)] == [200, 200]
    sandbox.reset()
    with sandbox.switched("runapi", replay_compares="bytes"):
        assert [sent(one), sent(other), sent(one)] == [200, 409, 200]
    assert len(sandbox.charges("runapi")) == 1


def test_a_replay_answers_with_a_ticket_or_the_whole_task(sandbox: Vendors, buyer: Buyer) -> None:
    task = buyer.generate(key="order-1")
    assert buyer.create(key="order-1").json().keys() == {"id", "status", "task_replayed"}
    with sandbox.switched("runapi", replay_answer="task"):
        assert buyer.create(key="order-1").json() == task | {"task_replayed": True}


def test_polls_of_running_tasks_say_when_to_come_back(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.latency(0.3, vendor="runapi")
    with sandbox.switched("runapi", poll_retry_after=1.5):
        created = buyer.create()
        assert buyer.poll(created.json()["id"]).headers["retry-after"] == "1.5"
        buyer.finished(created)
        assert "retry-after" not in buyer.poll(created.json()["id"]).headers
    assert "retry-after" not in buyer.poll(buyer.create().json()["id"]).headers


def test_tasks_wait_for_a_free_slot_and_are_never_refused(sandbox: Vendors, buyer: Buyer) -> None:
    sandbox.latency(0.2, vendor="runapi")
    with sandbox.switched("runapi", concurrency=1):
        first, second = buyer.create(), buyer.create()
        buyer.finished(first)
        assert buyer.poll(second.json()["id"]).json()["status"] == "processing"
        assert buyer.finished(second)["status"] == "completed"


@pytest.mark.parametrize(("switch", "edit_cents"), [("by_resolution", [6, 10, 16]), ("flat", [16, 16, 16])])
def test_schedules_quotes_charges_and_reported_costs_agree(
    sandbox: Vendors, buyer: Buyer, switch: str, edit_cents: list[int]
) -> None:
    cents = {"text_to_image": [6, 10, 16], "edit_image": edit_cents}
    source = f"{sandbox.url}/_/sample.png?w=64&h=64"
    with sandbox.switched("runapi", edit_price=switch):
        for action in ACTIONS:
            for tier, price in zip(TIERS, cents[action], strict=True):
                assert scheduled(buyer, action, tier) == quoted(buyer, action, tier) == price
                order = {"aspect_ratio": "3:2", "output_resolution": tier, "source_image_urls": [source]}
                task = buyer.finished(buyer.create(action, **order), action)
                assert Decimal(str(task["usage"]["cost"])) * 100 == price
                assert sandbox.charges("runapi")[-1]["usd_micros"] == price * 10_000


def scheduled(buyer: Buyer, action: str, tier: str) -> int:
    listed = buyer.request("GET", "/api/v1/price_schedules", params={"action": action}).json()["price_schedules"]
    assert [schedule["action"] for schedule in listed] == [action]
    overrides = (listed[0]["billing_config"] or {"overrides": {}})["overrides"]
    return int(overrides.get(tier, listed[0]["unit_price_cents"]))


def quoted(buyer: Buyer, action: str, tier: str) -> int:
    asked = {"service": "gpt-image-2", "action": action, "model": "gpt-image-2", "params": {"output_resolution": tier}}
    quote = buyer.sandbox.http.post("/runapi/api/v1/price_quotes", json=asked).json()["price_quote"]
    assert (quote["service"], quote["action"], quote["currency"]) == ("gpt_image_2", action, "USD")
    return int(quote["reservation_amount_cents"])


def test_schedules_are_filtered_and_unknown_quotes_refused(buyer: Buyer) -> None:
    def schedules(**filters: str) -> list[dict[str, Any]]:
        answer = buyer.sandbox.http.get("/runapi/api/v1/price_schedules", params=filters)
        return list(answer.json()["price_schedules"])

    assert [schedule["action"] for schedule in schedules()] == list(ACTIONS)
    assert len(schedules(service="gpt-image-2", model="gpt-image-2")) == 2
    assert schedules(service="flux_kontext") == []
    asked = {"service": "other", "action": "upscale", "model": "other", "params": {"output_resolution": "8k"}}
    refusal = buyer.sandbox.http.post("/runapi/api/v1/price_quotes", json=asked)
    assert (refusal.status_code, refusal.json()["errors"].keys()) == (422, asked.keys())
    assert buyer.sandbox.http.post("/runapi/api/v1/price_quotes", json=ORDER | {"params": []}).status_code == 422


@pytest.mark.parametrize("tier", TIERS)
def test_every_ratio_has_a_legal_size_in_every_tier(tier: str) -> None:
    assert len(RATIOS) == 15
    for name, ratio in RATIOS.items():
        width, height = size(ratio, tier)
        across, down = map(int, name.split(":"))
        assert width % 16 == height % 16 == 0, name
        assert width / height == pytest.approx(across / down, rel=0.02), name
        assert TIERS[tier][0] <= width * height <= TIERS[tier][1], name
        assert max(width, height) <= min(3840, 3 * min(width, height)), name


@pytest.mark.parametrize("ratio", [0.05, 0.34, 0.77, 1.01, 1.9, 2.99, 20])
def test_any_source_has_a_size_the_model_can_make(ratio: float) -> None:
    width, height = size(ratio, "1k")
    assert TIERS["1k"][0] <= width * height <= TIERS["1k"][1]
    assert width / height == pytest.approx(min(3.0, max(1 / 3, ratio)), rel=0.02)
