"""Webhooks over real connections: signed, repeated until they are accepted, and listed with their attempts."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI

from tests.flow.flow_config import API_KEY, OTHER_TEAM_KEY, RUNAPI, GatewaySetup
from tests.flow.gateway_on_store import STORE_KINDS, GatewayAndStore, run_gateway_on_store
from tests.flow.order_flow import PROMPT, OrderFlow
from tests.flow.public_site import PublicSite, run_public_site
from tests.harness.gateway_runner import ADMIN_KEY
from tests.harness.key_admin import KEYS_PATH
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.harness.webhook_receiver import (
    OLD_WEBHOOK_SECRET,
    WEBHOOK_SECRET,
    SentWebhook,
    WebhookReceiver,
    run_webhook_receiver,
)
from tests.harness.webhook_verifier import verify_webhook

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TIMING = change_timing(FAST_TIMINGS, webhooks={"interval_seconds": 0.5, "request_timeout_seconds": 5.0})
DELIVERIES = "/v1/webhooks/deliveries"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicSite]:
    with run_public_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with run_webhook_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module", params=STORE_KINDS)
def gateway_and_store(
    request: pytest.FixtureRequest,
    site: PublicSite,
    receiver: WebhookReceiver,
    sandbox_process: RunningSandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayAndStore]:
    webhooks = {
        "secrets": ["env:IGW_FLOW_WEBHOOK_SECRET", "env:IGW_OLD_WEBHOOK_SECRET"],
        "targets": {
            "all": {"url": f"{receiver.url}/all", "payload": "full", "private": True},
            "failures": {"url": f"{receiver.url}/failures", "events": ["job.failed"], "private": True},
            "budgets": {"url": f"{receiver.url}/budgets", "events": ["budget.threshold_reached"], "private": True},
        },
    }
    environ = {"IGW_OLD_WEBHOOK_SECRET": OLD_WEBHOOK_SECRET, "IGW_ADMIN_KEY": ADMIN_KEY}
    setup = site.add_to_setup(GatewaySetup(timing=TIMING, webhooks=webhooks, environ=environ))
    with run_gateway_on_store(request.param, tmp_path_factory.mktemp("hooks"), sandbox_process, setup) as running:
        yield running


@pytest.fixture(autouse=True)
def empty_receivers(flow: OrderFlow, site: PublicSite, receiver: WebhookReceiver) -> None:
    wait_until(lambda: not list_deliveries(flow, status="pending"), "the webhooks of earlier tests have ended")
    site.webhooks.clear()
    receiver.webhooks.clear()
    receiver.statuses.clear()


def request_json(flow: OrderFlow, method: str, path: str, key: str = API_KEY, **options: Any) -> httpx.Response:
    return flow.gateway.http.request(method, path, headers={"authorization": f"Bearer {key}"}, **options)


def list_deliveries(flow: OrderFlow, **params: str) -> list[dict[str, Any]]:
    body = request_json(flow, "GET", DELIVERIES, params=params).raise_for_status().json()
    return list(body["data"])


def wait_for_webhooks(webhooks: list[SentWebhook], count: int) -> list[SentWebhook]:
    return wait_until(lambda: webhooks if len(webhooks) >= count else None, f"{count} webhooks have arrived") or []


def wait_for_status(flow: OrderFlow, delivery_id: str, status: str) -> dict[str, Any]:
    def read() -> dict[str, Any] | None:
        delivery: dict[str, Any] = request_json(flow, "GET", f"{DELIVERIES}/{delivery_id}").json()
        return delivery if delivery["status"] == status else None

    return wait_until(read, f"the delivery is {status}") or {}


def test_threshold_of_a_budget_calls_the_target_that_asks_for_it(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    body = {"prompt": "a lighthouse", "quality": "low"}
    price = flow.gateway.post_job(body).json()["usage"]["cost"]
    options = {"team": "flow", "budget": {"week": f"{price * 20:.6f}"}}
    created = request_json(flow, "POST", KEYS_PATH, ADMIN_KEY, json=options).raise_for_status().json()
    for number in range(10):
        job = flow.gateway.post_job(body | {"prompt": f"lighthouse {number}"}, created["key"])
        assert job.json().get("usage", {}).get("cost") == price, job.text
    webhooks = wait_until(
        lambda: [webhook for webhook in receiver.webhooks if webhook.path == "/budgets"], "the threshold is announced"
    )
    assert len(webhooks) == 1
    event = verify_webhook(webhooks[0])
    data = event["data"]
    assert event["type"] == "budget.threshold_reached"
    assert (data["object"], data["team"], data["key_id"], data["window"]) == ("budget", "flow", created["id"], "week")
    assert (data["threshold"], data["limit"]) == (50, round(price * 20, 6))
    assert data["spent"] == round(price * 10, 6)
    [delivery] = [item for item in list_deliveries(flow) if item["event"] == event["type"]]
    assert (delivery["id"], delivery["job"], delivery["target"]) == (event["id"], None, "budgets")
    sample = 'igw_budget_thresholds_reached_total{owner="key",team="flow",threshold="50",window="week"} 1.0'
    wait_until(lambda: sample in flow.gateway.http.get("/metrics").text, "the metric counts the threshold")
    wait_until(lambda: "budget threshold reached" in flow.gateway.stderr, "the log has the event")


def test_job_calls_its_public_url_with_a_thin_body(flow: OrderFlow, site: PublicSite) -> None:
    url = site.make_url("/hook?token=a%20b")
    body = {"prompt": "a lighthouse", "quality": "low", "webhook": url}
    job = flow.gateway.post_job(body, traceparent=TRACEPARENT).json()
    [webhook] = wait_for_webhooks(site.webhooks, 1)
    assert webhook.path == "/hook?token=a%20b"
    event = verify_webhook(webhook)
    assert event["type"] == "job.completed"
    assert event["data"] == {"id": job["id"], "object": "job", "status": "completed"}
    assert event["id"] == webhook.id
    assert verify_webhook(webhook, OLD_WEBHOOK_SECRET) == event, "both secrets are valid during a rotation"
    assert webhook.headers["traceparent"] == TRACEPARENT
    assert webhook.headers["content-type"] == "application/json"
    assert "authorization" not in webhook.headers
    unwrapped = OpenAI(api_key="unused", webhook_secret=WEBHOOK_SECRET).webhooks.unwrap(
        webhook.body, dict(webhook.headers)
    )
    assert unwrapped.id == webhook.id


def test_target_gets_the_whole_job(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    job = flow.order_images(RUNAPI)
    [webhook] = wait_for_webhooks(receiver.webhooks, 1)
    data = verify_webhook(webhook)["data"]
    assert data.keys() == job.keys()
    assert (data["id"], data["status"], data["usage"]) == (job["id"], "completed", job["usage"])
    assert flow.gateway.http.get(data["images"][0]["url"]).status_code == 200
    assert PROMPT not in webhook.body.decode()


def test_images_api_has_webhooks_of_targets(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    answer = flow.gateway.post_generation({"prompt": "a lighthouse", "quality": "low"})
    [webhook] = wait_for_webhooks(receiver.webhooks, 1)
    assert verify_webhook(webhook)["data"]["id"] == answer.headers["x-igw-job-id"]


def test_failed_job_calls_both_targets(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    flow.sandbox.inject_fault("refuse_content", vendor="runapi", times=1)
    flow.run_job(provider={"only": [RUNAPI]})
    webhooks = wait_for_webhooks(receiver.webhooks, 2)
    assert sorted(webhook.path for webhook in webhooks) == ["/all", "/failures"]
    assert {verify_webhook(webhook)["type"] for webhook in webhooks} == {"job.failed"}
    assert len({webhook.id for webhook in webhooks}) == 2


def test_refused_webhook_is_sent_again_with_its_id(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    receiver.statuses["/all"] = [302, 204]
    job = flow.order_images(RUNAPI)
    webhooks = wait_for_webhooks(receiver.webhooks, 2)
    assert {webhook.id for webhook in webhooks} == {webhooks[0].id}
    assert webhooks[0].headers["webhook-timestamp"] <= webhooks[1].headers["webhook-timestamp"]
    [delivery] = list_deliveries(flow, job=job["id"])
    assert (delivery["id"], delivery["target"], delivery["host"]) == (webhooks[0].id, "all", "127.0.0.1")
    assert (delivery["attempts"][0]["outcome"], delivery["attempts"][0]["status"]) == ("redirected", 302)
    assert not receiver.list_at("/redirected"), "redirects are not followed"


def test_failed_delivery_can_be_requested_again(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    receiver.statuses["/all"] = [410, 204]
    job = flow.order_images(RUNAPI)
    [webhook] = wait_for_webhooks(receiver.webhooks, 1)
    failed = wait_for_status(flow, webhook.id, "failed")
    assert [attempt["outcome"] for attempt in failed["attempts"]] == ["gone"]
    assert [entry["id"] for entry in list_deliveries(flow, job=job["id"], status="failed")] == [webhook.id]
    assert list_deliveries(flow, job=job["id"], status="delivered") == []
    again = request_json(flow, "POST", f"{DELIVERIES}/{webhook.id}/redeliver")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    delivered = wait_for_status(flow, webhook.id, "delivered")
    assert [attempt["outcome"] for attempt in delivered["attempts"]] == ["gone", "delivered"]
    assert delivered["next_attempt_at"] is None
    assert {entry.id for entry in receiver.webhooks} == {webhook.id}


def test_test_webhook_reaches_a_target_and_a_url(flow: OrderFlow, receiver: WebhookReceiver, site: PublicSite) -> None:
    created = request_json(flow, "POST", "/v1/webhooks/test", json={"target": "all"})
    assert created.status_code == 202, created.text
    [webhook] = wait_for_webhooks(receiver.webhooks, 1)
    assert verify_webhook(webhook)["type"] == "webhook.test"
    assert created.headers["location"] == f"{DELIVERIES}/{webhook.id}"
    wait_for_status(flow, webhook.id, "delivered")
    request_json(flow, "POST", "/v1/webhooks/test", json={"webhook": site.make_url("/test")}).raise_for_status()
    [webhook] = wait_for_webhooks(site.webhooks, 1)
    assert (webhook.path, verify_webhook(webhook)["type"]) == ("/test", "webhook.test")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "target"),
        ({"target": "al"}, "target"),
        ({"target": "all", "webhook": "https://example.com/"}, "target"),
        ({"webhook": "https://127.0.0.1/"}, "webhook"),
        ({"webhook": "http://example.com/"}, "webhook"),
        ({"url": "https://example.com/"}, "url"),
    ],
)
def test_invalid_test_is_refused(flow: OrderFlow, body: dict[str, str], param: str) -> None:
    refused = request_json(flow, "POST", "/v1/webhooks/test", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


def test_team_without_a_secret_gets_no_webhooks(flow: OrderFlow) -> None:
    body = {"prompt": "a lighthouse", "webhook": "https://example.com/hook"}
    refused = flow.gateway.post_job(body, key=OTHER_TEAM_KEY)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "webhooks_not_configured")
    refused = request_json(
        flow, "POST", "/v1/webhooks/test", key=OTHER_TEAM_KEY, json={"webhook": "https://example.com/"}
    )
    assert refused.json()["error"]["code"] == "webhooks_not_configured"


def test_other_team_sees_no_delivery(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    flow.order_images(RUNAPI)
    [webhook] = wait_for_webhooks(receiver.webhooks, 1)
    for method, path in (("GET", ""), ("POST", "/redeliver")):
        answer = request_json(flow, method, f"{DELIVERIES}/{webhook.id}{path}", key=OTHER_TEAM_KEY)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "delivery_not_found")
    assert request_json(flow, "GET", DELIVERIES, key=OTHER_TEAM_KEY).json()["data"] == []


def test_log_is_read_page_by_page(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    jobs = [flow.order_images(RUNAPI)["id"] for _ in range(3)]
    wait_for_webhooks(receiver.webhooks, 3)
    first = request_json(flow, "GET", DELIVERIES, params={"limit": "2"}).json()
    rest = request_json(flow, "GET", DELIVERIES, params={"limit": "2", "after": first["last_id"]}).json()
    assert first["has_more"]
    assert [entry["job"] for entry in (*first["data"], *rest["data"])][:3] == jobs[::-1]
    for params in ({"after": "delivery_" + "a" * 28}, {"status": "lost"}, {"limit": "0"}, {"order": "asc"}):
        assert request_json(flow, "GET", DELIVERIES, params=params).status_code == 400


def test_deleted_job_gives_up_its_own_webhook(flow: OrderFlow, site: PublicSite, receiver: WebhookReceiver) -> None:
    """Its URL is deleted with the job. The team's target gets a thin body."""
    receiver.statuses["/all"] = [500, 204]
    body = {"prompt": "a lighthouse", "quality": "low", "webhook": "https://more.images.example.invalid/secret-path"}
    job = flow.gateway.post_job(body).json()
    wait_for_webhooks(receiver.webhooks, 1)
    [own] = [entry for entry in list_deliveries(flow, job=job["id"]) if entry["target"] is None]
    assert own["host"] == "more.images.example.invalid"
    flow.gateway.wait_until_idle()
    request_json(flow, "DELETE", f"/v1/jobs/{job['id']}").raise_for_status()
    assert "secret-path" not in flow.dump_store()
    failed = wait_for_status(flow, own["id"], "failed")
    assert failed["attempts"][-1]["outcome"] == "job_deleted"
    [_, webhook] = wait_for_webhooks(receiver.webhooks, 2)
    assert json.loads(webhook.body)["data"] == {"id": job["id"], "object": "job", "status": "completed"}


def test_metrics_count_deliveries(flow: OrderFlow, receiver: WebhookReceiver) -> None:
    before = flow.gateway.read_metric("igw_webhooks_ended_total", team="flow", outcome="delivered")
    flow.order_images(RUNAPI)
    wait_for_webhooks(receiver.webhooks, 1)
    wait_until(
        lambda: flow.gateway.read_metric("igw_webhooks_ended_total", team="flow", outcome="delivered") > before,
        "the delivery is counted",
    )
    assert flow.gateway.read_metric("igw_webhook_lag_seconds") < 5.0
