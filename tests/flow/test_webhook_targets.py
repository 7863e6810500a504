"""Targets of webhooks that admins add: through the admin API and the command line, over real connections."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from standardwebhooks import WebhookVerificationError

from tests.flow.flow_config import OTHER_TEAM_KEY, GatewaySetup
from tests.flow.gateway_on_store import (
    GatewayAndStore,
    Replicas,
    make_fixture_beside_replicas,
    make_gateway_fixture,
    make_replicas_fixture,
)
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import ADMIN_KEY
from tests.harness.key_admin import open_admin_client
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until
from tests.harness.webhook_receiver import SentWebhook, WebhookReceiver, run_webhook_receiver
from tests.harness.webhook_verifier import verify_webhook

TARGETS = "/v1/admin/webhooks"
TEAM, OTHER_TEAM = "flow", "other-team"
BODY = {"prompt": "a lighthouse", "quality": "low"}
TIMING = change_timing(FAST_TIMINGS, webhooks={"interval_seconds": 0.5, "request_timeout_seconds": 5.0})
WEBHOOKS = {"targets": {"alarm": {"url": "https://alarm.example.com/", "events": ["job.expired"]}}}
SETUP = GatewaySetup(timing=TIMING, webhooks=WEBHOOKS, environ={"IGW_ADMIN_KEY": ADMIN_KEY})

sqlite_gateway = make_gateway_fixture(SETUP)
redis_replicas = make_replicas_fixture(SETUP)
gateway_and_store = make_fixture_beside_replicas()


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookReceiver]:
    with run_webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
def admin(gateway_and_store: GatewayAndStore, receiver: WebhookReceiver) -> Iterator[httpx.Client]:
    """A client of the admin API. The targets that a test adds are removed after it."""
    with open_admin_client(gateway_and_store[0].url) as client:
        yield client
        remove_all_targets(client)
    receiver.webhooks.clear()
    receiver.statuses.clear()


def remove_all_targets(admin: httpx.Client) -> None:
    for target in admin.get(TARGETS).raise_for_status().json()["data"]:
        if target["origin"] == "store":
            admin.delete(f"{TARGETS}/{target['id']}").raise_for_status()


def add_target(admin: httpx.Client, receiver: WebhookReceiver, **changes: Any) -> dict[str, Any]:
    """Adds a target with a name of its own: one that had the name before may have pending webhooks."""
    name = f"target-{uuid4().hex[:12]}"
    body = {"team": OTHER_TEAM, "name": name, "url": f"{receiver.url}/{name}", "private": True, **changes}
    answer = admin.post(TARGETS, json=body)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{TARGETS}/{created['id']}"
    return created


def wait_for_webhooks(receiver: WebhookReceiver, target: dict[str, Any], count: int = 1) -> list[SentWebhook]:
    path = urlsplit(target["url"]).path

    def list_arrived() -> list[SentWebhook] | None:
        webhooks = receiver.list_at(path)
        return webhooks if len(webhooks) >= count else None

    return wait_until(list_arrived, f"{count} webhooks have arrived") or []


def expect_error(answer: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), answer.text
    return str(error["message"])


def test_added_target_is_listed_shown_changed_and_removed(admin: httpx.Client, receiver: WebhookReceiver) -> None:
    created = add_target(admin, receiver, events=["job.completed"], payload="full", description="the shop")
    assert created.pop("secret").startswith("whsec_")
    path = f"{TARGETS}/{created['id']}"
    assert admin.get(path).json() == created
    assert (created["origin"], created["signed_with"], created["enabled"]) == ("store", "own_secrets", True)
    listed = admin.get(TARGETS).json()
    assert [(target["team"], target["name"], target["origin"]) for target in listed["data"]] == [
        (TEAM, "alarm", "teams.yaml"),
        (OTHER_TEAM, created["name"], "store"),
    ]
    assert admin.get(TARGETS, params={"team": OTHER_TEAM}).json()["data"] == [created]
    changed = admin.patch(path, json={"url": f"{receiver.url}/new", "enabled": False}).raise_for_status().json()
    assert changed == created | {"url": f"{receiver.url}/new", "enabled": False}
    expect_error(admin.post(f"{path}/test"), 409, "webhook_target_conflict")
    assert admin.delete(path).json() == changed
    for answer in (admin.get(path), admin.delete(path), admin.patch(path, json={}), admin.post(f"{path}/test")):
        assert "GET /v1/admin/webhooks" in expect_error(answer, 404, "webhook_target_not_found")


def test_configured_target_can_be_tested_and_not_changed(admin: httpx.Client) -> None:
    [alarm] = admin.get(TARGETS, params={"team": TEAM}).json()["data"]
    path = f"{TARGETS}/{alarm['id']}"
    assert (alarm["origin"], alarm["signed_with"], alarm["secrets"]) == ("teams.yaml", "team_secrets", [])
    for answer in (admin.delete(path), admin.patch(path, json={"enabled": False}), admin.post(f"{path}/rotate")):
        assert "teams.yaml" in expect_error(answer, 409, "webhook_target_conflict")
    tested = admin.post(f"{path}/test")
    assert (tested.status_code, tested.json()["target"], tested.json()["event"]) == (202, "alarm", "webhook.test")
    assert admin.get(tested.headers["location"]).json()["id"] == tested.json()["id"]


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"team": "flaw"}, "invalid_value", "team"),
        ({"url": "http://example.com/"}, "invalid_value", "url"),
        ({"url": "https://user@example.com/"}, "invalid_value", "url"),
        ({"url": None}, "invalid_value", "url"),
        ({"name": "Orders"}, "invalid_value", "name"),
        ({"events": []}, "invalid_value", "events"),
        ({"events": ["job.complete"]}, "invalid_value", "events[0]"),
        ({"payload": "whole"}, "invalid_value", "payload"),
        ({"event": ["job.completed"]}, "unknown_parameter", "event"),
    ],
)
def test_invalid_target_is_refused_by_name(admin: httpx.Client, changes: dict[str, Any], code: str, param: str) -> None:
    body = {"team": TEAM, "url": "https://example.com/", **changes}
    message = expect_error(admin.post(TARGETS, json=body), 400, code, param)
    if param in ("team", "event"):
        assert "did you mean" in message
    assert [target["origin"] for target in admin.get(TARGETS).json()["data"]] == ["teams.yaml"]


def test_key_of_a_team_cannot_administer_targets(
    admin: httpx.Client, receiver: WebhookReceiver, flow: OrderFlow
) -> None:
    target = add_target(admin, receiver)
    headers = {"authorization": f"Bearer {OTHER_TEAM_KEY}"}
    for method, path in (
        *(("GET", ""), ("POST", ""), ("GET", f"/{target['id']}"), ("PATCH", f"/{target['id']}")),
        *(("DELETE", f"/{target['id']}"), ("POST", f"/{target['id']}/rotate"), ("POST", f"/{target['id']}/test")),
    ):
        answer = flow.gateway.http.request(method, f"{TARGETS}{path}", headers=headers, json={})
        expect_error(answer, 403, "insufficient_scope")
    assert admin.get(f"{TARGETS}/{target['id']}").status_code == 200


def test_job_calls_the_added_target_signed_with_its_secret(
    admin: httpx.Client, receiver: WebhookReceiver, flow: OrderFlow
) -> None:
    created = add_target(admin, receiver, payload="full", events=["job.completed"])
    job = flow.gateway.post_job(BODY, OTHER_TEAM_KEY).json()
    [webhook] = wait_for_webhooks(receiver, created)
    event = verify_webhook(webhook, created["secret"])
    assert (event["type"], event["data"]["id"], event["data"]["usage"]) == ("job.completed", job["id"], job["usage"])
    own = admin.get(f"/v1/webhooks/deliveries/{webhook.id}", headers={"authorization": f"Bearer {OTHER_TEAM_KEY}"})
    assert (own.json()["target"], own.json()["job"]) == (created["name"], job["id"])
    again = flow.gateway.http.post(
        f"/v1/webhooks/deliveries/{webhook.id}/redeliver", headers={"authorization": f"Bearer {OTHER_TEAM_KEY}"}
    )
    assert again.status_code == 202, again.text
    assert {webhook.id} == {sent.id for sent in wait_for_webhooks(receiver, created, 2)}
    assert created["secret"] not in flow.gateway.stderr
    assert created["url"] not in flow.gateway.stderr


def test_private_address_is_reached_only_by_a_private_target(admin: httpx.Client) -> None:
    answer = admin.post(TARGETS, json={"team": OTHER_TEAM, "url": "https://127.0.0.1/"})
    assert answer.status_code == 201, answer.text
    tested = admin.post(f"{TARGETS}/{answer.json()['id']}/test")
    path = tested.headers["location"]

    def read_attempts() -> list[dict[str, Any]]:
        attempts: list[dict[str, Any]] = admin.get(path).json()["attempts"]
        return attempts

    [attempt, *_] = wait_until(read_attempts, "the test has an attempt") or []
    assert (attempt["outcome"], attempt["status"]) == ("address_blocked", None)


def test_team_with_secrets_signs_with_them(admin: httpx.Client, receiver: WebhookReceiver, flow: OrderFlow) -> None:
    shared = add_target(admin, receiver, team=TEAM)
    own = add_target(admin, receiver, team=TEAM, own_secret=True)
    assert (shared["secret"], shared["signed_with"]) == (None, "team_secrets")
    flow.gateway.post_job(BODY)
    [webhook] = wait_for_webhooks(receiver, shared)
    verify_webhook(webhook)
    [webhook] = wait_for_webhooks(receiver, own)
    verify_webhook(webhook, own["secret"])


def test_both_secrets_are_valid_during_a_rotation(admin: httpx.Client, receiver: WebhookReceiver) -> None:
    created = add_target(admin, receiver)
    path = f"{TARGETS}/{created['id']}"
    expect_error(admin.post(f"{path}/rotate", json={"overlap": "soon"}), 400, "invalid_value", "overlap")
    rotated = admin.post(f"{path}/rotate", json={"overlap": "1h"})
    assert rotated.status_code == 201, rotated.text
    new = rotated.json()
    assert new["secrets"][1]["expires_at"] - new["secrets"][0]["created_at"] in (3_599, 3_600, 3_601)
    webhook = wait_for_signature(admin, receiver, new)
    assert verify_webhook(webhook, created["secret"]) == verify_webhook(webhook, new["secret"])
    last = admin.post(f"{path}/rotate", json={"overlap": "0"}).json()
    webhook = wait_for_signature(admin, receiver, last)
    for old in (created["secret"], new["secret"]):
        assert not is_signed_with(webhook, old)


def wait_for_signature(admin: httpx.Client, receiver: WebhookReceiver, target: dict[str, Any]) -> SentWebhook:
    """Sends tests until one is signed with the new secret. The other replica may have the old one for some seconds."""

    def send_test() -> SentWebhook | None:
        count = len(receiver.list_at(urlsplit(target["url"]).path))
        admin.post(f"{TARGETS}/{target['id']}/test").raise_for_status()
        webhook = wait_for_webhooks(receiver, target, count + 1)[-1]
        return webhook if is_signed_with(webhook, target["secret"]) else None

    webhook = wait_until(send_test, "a webhook has the new signature")
    assert webhook is not None
    return webhook


def is_signed_with(webhook: SentWebhook, secret: str) -> bool:
    try:
        verify_webhook(webhook, secret)
    except WebhookVerificationError:
        return False
    return True


def test_removed_target_gives_up_its_pending_webhooks(
    admin: httpx.Client, receiver: WebhookReceiver, flow: OrderFlow
) -> None:
    created = add_target(admin, receiver)
    receiver.statuses[urlsplit(created["url"]).path] = [503]
    flow.gateway.post_job(BODY, OTHER_TEAM_KEY)
    [webhook] = wait_for_webhooks(receiver, created)
    admin.delete(f"{TARGETS}/{created['id']}").raise_for_status()

    def read_failed() -> dict[str, Any] | None:
        delivery: dict[str, Any] = admin.get(f"/v1/webhooks/deliveries/{webhook.id}").json()
        return delivery if delivery["status"] == "failed" else None

    delivery = wait_until(read_failed, "the webhook is given up") or {}
    assert delivery["attempts"][-1]["outcome"] == "target_removed"


def test_each_action_is_an_event_and_a_line_of_the_log(
    admin: httpx.Client, receiver: WebhookReceiver, flow: OrderFlow
) -> None:
    created = add_target(admin, receiver, url=f"{receiver.url}/orders?token=hidden")
    admin.post(f"{TARGETS}/{created['id']}/rotate").raise_for_status()
    admin.delete(f"{TARGETS}/{created['id']}").raise_for_status()
    events = admin.get("/v1/admin/events", params={"limit": 3}).json()["data"]
    actions = ["webhook_target_removed", "webhook_secret_rotated", "webhook_target_added"]
    assert [event["action"] for event in events] == actions
    assert {(event["team"], event["actor"]) for event in events} == {(OTHER_TEAM, "env:IGW_ADMIN_KEY")}
    assert (events[2]["details"]["target"], events[2]["details"]["host"]) == (created["name"], "127.0.0.1")
    assert "hidden" not in json.dumps(events)
    assert created["secret"] not in json.dumps(events)
    wait_until(lambda: '"webhook_secret_rotated"' in flow.gateway.stderr, "the log has the line")
    assert "hidden" not in flow.gateway.stderr


def test_commands_add_list_test_and_remove_a_target(
    admin: httpx.Client, receiver: WebhookReceiver, flow: OrderFlow
) -> None:
    options, name = ("--url", flow.gateway.url, "--admin-key", ADMIN_KEY), f"shop-{uuid4().hex[:12]}"
    added = run_command(*("webhooks", "add", OTHER_TEAM, f"{receiver.url}/shop", "--private", "--name", name), *options)
    assert added.returncode == 0, added.stderr
    secret = added.stdout.strip()
    listed = json.loads(run_command("webhooks", "list", "--team", OTHER_TEAM, "--json", *options).stdout)
    [target] = listed
    assert "own secrets" in run_command("webhooks", "list", *options).stdout
    tested = run_command("webhooks", "test", target["id"], *options)
    assert (tested.returncode, "delivered with status 204" in tested.stdout) == (0, True), tested.stderr
    [webhook] = wait_for_webhooks(receiver, target)
    assert verify_webhook(webhook, secret)["type"] == "webhook.test"
    rotated = run_command("webhooks", "rotate", target["id"], "--overlap", "7d", *options)
    assert rotated.stdout.strip().startswith("whsec_")
    receiver.statuses["/refused"] = [500]
    changed = run_command("webhooks", "change", target["id"], "--to", f"{receiver.url}/refused", *options)
    assert "/refused" in changed.stdout, changed.stderr
    tested = run_command("webhooks", "test", target["id"], *options)
    assert (tested.returncode, "refused with status 500" in tested.stdout) == (1, True), tested.stderr
    removed = run_command("webhooks", "remove", target["id"], *options)
    assert removed.stdout == f"removed {name} of {OTHER_TEAM}\n"
    again = run_command("webhooks", "remove", target["id"], *options)
    assert (again.returncode, "not found" in again.stderr) == (1, True)


def test_target_of_the_other_replica_is_used_within_seconds(
    redis_replicas: Replicas, receiver: WebhookReceiver
) -> None:
    """Also after the restart of that replica."""
    [first, second], _ = redis_replicas
    with open_admin_client(first.url) as admin:
        created = add_target(admin, receiver)
        wait_until(lambda: accepts_test(second, created["name"]), "the other replica has the target")
        webhook = wait_for_webhooks(receiver, created)[0]
        assert verify_webhook(webhook, created["secret"])["type"] == "webhook.test"
        second.stop()
        second.start()
        job = second.post_job(BODY, OTHER_TEAM_KEY).json()
        webhook = wait_for_webhooks(receiver, created, 2)[1]
        assert verify_webhook(webhook, created["secret"])["data"]["id"] == job["id"]
        admin.delete(f"{TARGETS}/{created['id']}").raise_for_status()
        wait_until(lambda: not accepts_test(second, created["name"]), "the target is gone at the other replica")


def accepts_test(gateway: FlowGateway, name: str) -> bool:
    headers = {"authorization": f"Bearer {OTHER_TEAM_KEY}"}
    return gateway.http.post("/v1/webhooks/test", json={"target": name}, headers=headers).status_code == 202


def test_restart_keeps_targets(admin: httpx.Client, receiver: WebhookReceiver, flow: OrderFlow) -> None:
    created = add_target(admin, receiver)
    flow.gateway.stop()
    flow.gateway.start()
    flow.gateway.post_job(BODY, OTHER_TEAM_KEY)
    [webhook] = wait_for_webhooks(receiver, created)
    verify_webhook(webhook, created["secret"])
