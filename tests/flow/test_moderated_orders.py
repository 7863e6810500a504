"""Moderation hooks, from the request to the ledger: a refusal costs the team nothing, and never counts for a seller."""

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import openai
import pytest
from standardwebhooks import Webhook

from tests.flow.flow_config import (
    API_KEY,
    EACH_SELLER,
    OTHER_TEAM_KEY,
    PRICE_MICROS,
    RUNAPI,
    RUNFLOW_RUNS,
    VENDOR_BY_SELLER,
    GatewaySetup,
)
from tests.flow.gateway_on_store import GatewayAndStore, run_gateway_on_store
from tests.flow.order_flow import OrderFlow
from tests.harness.batch_client import (
    count_results,
    create_batch,
    make_line,
    make_sdk_client,
    read_results,
    run_batch,
    wait_for_end,
)
from tests.harness.form_bodies import FORM_HEADERS, make_form, make_part
from tests.harness.moderation_server import ALLOW, HookReply, ModerationServer, refuse, run_moderation_server
from tests.harness.sample_images import make_image
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.harness.webhook_receiver import WEBHOOK_SECRET

HEADERS = {"authorization": f"Bearer {API_KEY}"}
# Words that appear in no other place of a log.
PROMPT = "a heron made of brittle glass"
REASON = "rule 7: brittle things"
# The word that repeats the prompt is removed.
SHOWN_REASON = "rule 7: […] things"
BROKEN = HookReply(b"Internal Server Error", 500)
# Five questions about an image take a third of a second.
TIMING = change_timing(FAST_TIMINGS, claims={"interval_seconds": 0.2})


@pytest.fixture(scope="module")
def hooks() -> Iterator[ModerationServer]:
    with run_moderation_server() as server:
        yield server


@pytest.fixture(scope="module")
def gateway_and_store(
    hooks: ModerationServer, sandbox_process: RunningSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayAndStore]:
    def make_hook(path: str, **options: Any) -> dict[str, Any]:
        secrets = ["env:IGW_FLOW_WEBHOOK_SECRET"]
        return {"url": f"{hooks.url}{path}", "private": True, "secrets": secrets, "timeout_seconds": 30.0, **options}

    setup = GatewaySetup(
        timing=TIMING,
        moderation={"before": make_hook("/before"), "after": make_hook("/after")},
        other_team={"moderate": {"before": make_hook("/other", fail="open")}},
        environ={"IGW_LOG_LEVEL": "debug"},
        job_settings={"lease_seconds": 2.0},
    )
    with run_gateway_on_store("sqlite", tmp_path_factory.mktemp("moderation"), sandbox_process, setup) as running:
        yield running


@pytest.fixture(autouse=True)
def allowing_hooks(hooks: ModerationServer) -> None:
    hooks.reset()


def refuse_at(hooks: ModerationServer, hook: str) -> None:
    kind = f"moderation.{hook}"
    hooks.reply_to = lambda question: refuse(REASON) if question["type"] == kind else ALLOW


def read_answers(flow: OrderFlow, hook: str, outcome: str, team: str = "flow") -> float:
    return flow.gateway.read_metric("igw_moderation_answers_total", team=team, hook=hook, outcome=outcome)


def post_edit(flow: OrderFlow, image: bytes, mask: bytes, prompt: str = PROMPT) -> httpx.Response:
    form = make_form(
        make_part("prompt", prompt),
        make_part("model", b"gpt-image-2"),
        make_part("image", image, "Content-Type: image/png", filename="in.png"),
        make_part("mask", mask, "Content-Type: image/png", filename="mask.png"),
    )
    return flow.gateway.http.post("/v1/images/edits", content=form, headers=HEADERS | FORM_HEADERS)


def test_allowed_request_and_its_image_are_asked_about_once(flow: OrderFlow, hooks: ModerationServer) -> None:
    job = flow.order_images(RUNAPI, prompt=PROMPT)
    assert job["status"] == "completed"
    [before], [after] = hooks.list_asked("/before"), hooks.list_asked("/after")
    assert before == {
        **{"type": "moderation.before", "team": "flow", "prompt": PROMPT, "model": "gpt-image-2"},
        **{"operation": "generate", "n": 1, "size": "1024x1024", "quality": "low", "images": []},
    }
    assert (after["job"], after["index"], after["prompt"]) == (job["id"], 0, PROMPT)
    assert after["sha256"] == job["images"][0]["sha256"]
    served = flow.gateway.http.get(job["images"][0]["url"]).content
    assert after["b64_json"] == b64encode(served).decode()
    for question in hooks.questions:
        assert Webhook(WEBHOOK_SECRET).verify(question.body, dict(question.headers)) == question.content


def send_refused_requests(flow: OrderFlow) -> Iterator[tuple[str, httpx.Response]]:
    """Sends a request in each way that orders, and yields the responses."""
    image, prompt = make_image(64, 64), f"{PROMPT} {flow.gateway.test_id}"
    generation = {"prompt": prompt, "model": "gpt-image-2"}
    yield "images", flow.gateway.post_generation(generation)
    yield "images, streamed", flow.gateway.post_generation(generation | {"stream": True})
    yield "edits", post_edit(flow, image, make_image(64, 64, mode="RGBA"), prompt)
    yield "jobs", flow.gateway.post_job(generation)
    responses = {"model": "gpt-image-2", "input": prompt, "tools": [{"type": "image_generation"}]}
    yield "responses", flow.gateway.http.post("/v1/responses", json=responses, headers=HEADERS)


def test_refused_request_costs_nothing_on_any_way(flow: OrderFlow, hooks: ModerationServer) -> None:
    """No job, no hold, no order, and no trace of the prompt."""
    refuse_at(hooks, "before")
    refused = read_answers(flow, "before", "refused")
    jobs_before = flow.gateway.http.get("/v1/jobs", headers=HEADERS).json()["data"]
    answers = dict(send_refused_requests(flow))
    for name, answer in answers.items():
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "moderation_blocked"), name
        assert error["type"] == "image_generation_user_error"
        assert answer.headers["x-should-retry"] == "false"
        assert error["message"] == (
            f"The moderation hook 'before' refused this request: {SHOWN_REASON}. Change the prompt or the images. "
            "You were not charged."
        )
    assert flow.gateway.http.get("/v1/jobs", headers=HEADERS).json()["data"] == jobs_before
    assert flow.read_ledger_entries() == []
    assert [flow.count_orders(seller) for seller in VENDOR_BY_SELLER] == [0] * len(VENDOR_BY_SELLER)
    assert flow.gateway.read_metric("igw_holds_usd", team="flow") == 0
    assert flow.gateway.test_id not in flow.dump_store()
    assert hooks.list_asked("/after") == []
    assert read_answers(flow, "before", "refused") - refused == len(answers) == len(hooks.list_asked("/before"))


def test_input_images_are_asked_about_by_their_digests(flow: OrderFlow, hooks: ModerationServer) -> None:
    refuse_at(hooks, "before")
    image, mask = make_image(64, 64), make_image(64, 64, mode="RGBA")
    assert post_edit(flow, image, mask).status_code == 400
    [question] = hooks.list_asked("/before")
    assert question["operation"] == "edit"
    assert question["images"] == [
        {"role": "input", "media_type": "image/png", "sha256": sha256(image).hexdigest()},
        {"role": "mask", "media_type": "image/png", "sha256": sha256(mask).hexdigest()},
    ]


def test_refused_line_of_a_batch_has_the_same_error(flow: OrderFlow, hooks: ModerationServer) -> None:
    hooks.reply_to = lambda question: refuse(REASON) if question["prompt"] == PROMPT else ALLOW
    with make_sdk_client(flow.gateway.url, API_KEY) as client:
        only = {"provider": {"only": [RUNAPI]}}
        ended = run_batch(client, [make_line(1, **only), make_line(2, prompt=PROMPT, **only)])
        assert (ended.status, count_results(ended)) == ("completed", (2, 1, 1))
        (line,) = read_results(client, ended.error_file_id).values()
    assert line["custom_id"] == "request-2"
    assert (line["response"]["status_code"], line["response"]["body"]["error"]["code"]) == (400, "moderation_blocked")
    assert flow.count_orders(RUNAPI) == 1


def test_hook_that_does_not_answer_refuses_for_a_while(flow: OrderFlow, hooks: ModerationServer) -> None:
    hooks.reply_to = lambda _: BROKEN
    answer = flow.gateway.post_generation({"prompt": PROMPT, "provider": {"only": [RUNAPI]}})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (503, "moderation_unavailable")
    assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("5", "true")
    assert error["message"] == (
        "The moderation hook 'before' gave no valid answer. Retry in 5 seconds. You were not charged."
    )
    assert flow.sandbox.list_charges() == []
    hooks.reset()
    assert flow.gateway.post_generation({"prompt": PROMPT, "provider": {"only": [RUNAPI]}}).status_code == 200


def test_line_of_a_batch_waits_for_the_hook(flow: OrderFlow, hooks: ModerationServer) -> None:
    hooks.reply_to = lambda _: BROKEN
    with make_sdk_client(flow.gateway.url, API_KEY) as client:
        batch = create_batch(client, [make_line(1, provider={"only": [RUNAPI]})])
        wait_until(lambda: len(hooks.list_asked("/before")) >= 2, "the line was asked about again")
        hooks.reset()
        assert count_results(wait_for_end(client, batch)) == (1, 1, 0)


def test_team_with_its_own_open_hook_goes_on_without_answer(flow: OrderFlow, hooks: ModerationServer) -> None:
    """Its other hook is that of all teams."""
    hooks.reply_to = lambda question: BROKEN if question["type"] == "moderation.before" else ALLOW
    answer = flow.gateway.post_job({"prompt": PROMPT, "provider": {"only": [RUNAPI]}}, OTHER_TEAM_KEY)
    assert answer.json()["status"] == "completed"
    assert [len(hooks.list_asked(path)) for path in ("/other", "/before", "/after")] == [1, 0, 1]
    assert read_answers(flow, "before", "invalid_answer", "other-team") == 1


def test_repetition_of_a_request_with_a_job_is_not_asked_about(flow: OrderFlow, hooks: ModerationServer) -> None:
    body = {"prompt": PROMPT, "provider": {"only": [RUNAPI]}}
    first, second = (flow.gateway.post_job(body, **{"idempotency-key": flow.gateway.test_id}) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert len(hooks.list_asked("/before")) == 1


@EACH_SELLER
def test_withheld_image_is_paid_by_the_operator_and_ordered_nowhere_else(
    flow: OrderFlow, hooks: ModerationServer, seller: str
) -> None:
    refuse_at(hooks, "after")
    failed = flow.gateway.read_metric("igw_failed_orders_total", seller=seller)
    job = flow.order_with_failover(seller, prompt=PROMPT)
    assert (job["status"], job["error"]["code"]) == ("failed", "moderation_blocked")
    assert "The moderation hook 'after' refused the images" in job["error"]["message"]
    assert "The seller was paid; you were not charged." in job["error"]["message"]
    [attempt] = job["attempts"]
    assert (attempt["seller"], attempt["fault"]) == (seller, "image_withheld")
    assert attempt["seller_notes"] == [
        f"image_withheld: image 0: refused by the moderation hook 'after': {SHOWN_REASON}"
    ]
    assert job["usage"]["cost"] == 0
    [entry] = flow.read_ledger_entries()
    assert (str(entry.line), entry.amount, entry.reason) == ("orphan", entry.amount, "image_withheld")
    assert sum(line["usd_micros"] for line in flow.sandbox.list_charges()) == entry.amount > 0
    assert flow.count_orders(seller) == 1
    assert [path for path in flow.gateway.folder.rglob(f"{job['id']}/*") if path.is_file()] == []
    assert flow.gateway.has_only_healthy_sellers()
    assert flow.gateway.read_metric("igw_failed_orders_total", seller=seller) == failed
    assert flow.gateway.read_metric("igw_late_images_total", seller=seller) == 0


def test_request_of_a_withheld_image_gets_the_error_of_refused_content(
    flow: OrderFlow, hooks: ModerationServer
) -> None:
    refuse_at(hooks, "after")
    answer = flow.gateway.post_generation({"prompt": PROMPT, "provider": {"only": [RUNAPI]}})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "moderation_blocked")
    assert error["type"] == "image_generation_user_error"
    assert answer.headers["x-should-retry"] == "false"


def test_withheld_image_among_several_leaves_the_others(flow: OrderFlow, hooks: ModerationServer) -> None:
    """One order for two images: half of its charge is captured, and it says nothing about the price of an image."""
    hooks.reply_to = lambda question: refuse(REASON) if question.get("index") == 1 else ALLOW
    mismatches = flow.gateway.read_metric("igw_price_mismatches_total", seller=RUNFLOW_RUNS)
    job = flow.order_images(RUNFLOW_RUNS, prompt=PROMPT, n=2)
    assert job["status"] == "completed"
    assert [image["index"] for image in job["images"]] == [0]
    assert any("image_withheld: image 1" in warning and SHOWN_REASON in warning for warning in job["warnings"])
    price = PRICE_MICROS[RUNFLOW_RUNS]
    assert flow.sum_ledger_by_line() == {(RUNFLOW_RUNS, "capture"): price, (RUNFLOW_RUNS, "orphan"): price}
    assert [entry.images for entry in flow.read_ledger_entries() if str(entry.line) == "orphan"] == [0]
    assert flow.gateway.read_metric("igw_price_mismatches_total", seller=RUNFLOW_RUNS) == mismatches
    assert flow.count_orders(RUNFLOW_RUNS) == 1


def test_image_is_withheld_while_the_hook_is_down(flow: OrderFlow, hooks: ModerationServer) -> None:
    hooks.reply_to = lambda question: BROKEN if question["type"] == "moderation.after" else ALLOW
    job = flow.order_with_failover(RUNAPI, prompt=PROMPT)
    assert (job["status"], job["error"]["code"]) == ("failed", "moderation_unavailable")
    assert [attempt["fault"] for attempt in job["attempts"]] == ["image_unmoderated"]
    assert len(hooks.list_asked("/after")) == TIMING.fetches.max_tries
    assert flow.sum_ledger_by_line() == {(RUNAPI, "orphan"): PRICE_MICROS[RUNAPI]}
    assert flow.gateway.has_only_healthy_sellers()


def test_restart_of_the_hook_loses_no_image(flow: OrderFlow, hooks: ModerationServer) -> None:
    replies = [None, BROKEN, ALLOW]
    hooks.reply_to = lambda question: replies.pop(0) if question["type"] == "moderation.after" else ALLOW
    assert flow.order_images(RUNAPI, prompt=PROMPT)["status"] == "completed"
    assert [flow.count_orders(RUNAPI), len(hooks.list_asked("/after"))] == [1, 3]
    assert len({question.headers["webhook-id"] for question in hooks.questions if question.path == "/after"}) == 1


def test_crash_before_the_answer_asks_again(flow: OrderFlow, hooks: ModerationServer) -> None:
    """At least once: the restarted process fetches the image again, and buys nothing."""
    asked = hooks.list_asked
    hooks.reply_to = lambda question: hooks.released.clear() or ALLOW if asked("/after") else ALLOW
    job_id = flow.start_job(provider={"only": [RUNAPI]}, prompt=PROMPT)
    wait_until(lambda: asked("/after"), "the image is asked about")
    flow.gateway.kill()
    hooks.reply_to = lambda _: ALLOW
    hooks.released.set()
    flow.gateway.start()
    assert flow.gateway.get_job(job_id)["status"] == "completed"
    assert (len(asked("/before")), len(asked("/after"))) == (1, 2)
    assert flow.sum_ledger_by_line() == {(RUNAPI, "capture"): PRICE_MICROS[RUNAPI]}


def test_log_has_the_answers_without_prompt_and_image(flow: OrderFlow, hooks: ModerationServer) -> None:
    flow.order_images(RUNAPI, prompt=PROMPT)
    image = str(hooks.list_asked("/after")[0]["b64_json"])
    refuse_at(hooks, "after")
    flow.order_images(RUNAPI, prompt=PROMPT)
    refuse_at(hooks, "before")
    flow.gateway.post_job({"prompt": PROMPT})
    hooks.reply_to = lambda _: BROKEN
    flow.gateway.post_job({"prompt": PROMPT})
    wait_until(
        lambda: (
            {("before", "allowed"), ("after", "allowed"), ("after", "refused"), ("before", "refused")}
            <= {(line["hook"], line["outcome"]) for line in list_moderation_lines(flow)}
        ),
        "the log has the answers",
    )
    assert all(line["team"] in ("flow", "other-team") for line in list_moderation_lines(flow))
    text = flow.gateway.read_log()
    assert "brittle" not in text
    assert image[len(image) // 2 :][:60] not in text
    metrics = flow.gateway.http.get("/metrics").text
    assert "brittle" not in metrics
    assert 'igw_moderation_duration_seconds_count{hook="after"}' in metrics


def list_moderation_lines(flow: OrderFlow) -> list[dict[str, Any]]:
    return [line for line in flow.gateway.read_log_lines() if line["event"] == "moderation answered"]


def test_openai_sdk_raises_its_own_error(flow: OrderFlow, hooks: ModerationServer) -> None:
    refuse_at(hooks, "before")
    with make_sdk_client(flow.gateway.url, API_KEY) as client, pytest.raises(openai.BadRequestError) as raised:
        client.images.generate(model="gpt-image-2", prompt=PROMPT)
    assert (raised.value.code, raised.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert json.loads(raised.value.response.content)["error"]["param"] is None
    assert len(hooks.list_asked("/before")) == 1
