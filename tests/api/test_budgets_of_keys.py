"""Budgets of API keys and teams, as callers and admins see them."""

import json
from typing import Any

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, parse_error
from tests.api.job_requests import BODY
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway, make_client
from tests.harness.key_admin import KEYS_PATH, create_key, open_admin_client
from tests.harness.wait import wait_until

WAIT = {"prefer": "wait=30"}


def expect_refusal(answer: httpx.Response, *texts: str) -> None:
    assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false"), answer.text
    error = parse_error(answer)
    assert (error["code"], error["type"]) == ("insufficient_quota", "insufficient_quota")
    assert [text for text in texts if text not in error["message"]] == []


@pytest.mark.parametrize("window", ["day", "week", "month", "lifetime"])
def test_key_beyond_its_budget_is_refused_and_its_team_is_not(gateway: RunningGateway, window: str) -> None:
    created = create_key(gateway, budget={window: "0.000001"})
    assert created["budget"] == {window: 0.000001}
    with make_client(gateway.url, created["key"]) as client:
        for path in (IMAGES_PATH, JOBS_PATH):
            expect_refusal(client.post(path, json=BODY), "this API key has $0.000001 of $0.000001 left", window)
    assert gateway.http.post(JOBS_PATH, json=BODY, headers=WAIT).status_code == 200


def test_key_and_its_successor_share_one_budget(gateway: RunningGateway) -> None:
    created = create_key(gateway, budget={"lifetime": "1.00"})
    with make_client(gateway.url, created["key"]) as client:
        job = client.post(JOBS_PATH, json=BODY, headers=WAIT)
        assert job.status_code == 200, job.text
        spent = job.json()["usage"]["cost"]
        quoted = client.post("/v1/quotes", json=BODY).json()["budgets"]
        assert [(budget["owner"], budget["kind"], budget["spent"]) for budget in quoted] == [("key", "lifetime", spent)]
    with open_admin_client(gateway.url) as admin:
        successor = admin.post(f"{KEYS_PATH}/{created['id']}/rotate", json={"overlap": "0"}).json()
    assert successor["budget"] == {"lifetime": 1.0}
    with make_client(gateway.url, successor["key"]) as client:
        [budget] = client.post("/v1/quotes", json=BODY).json()["budgets"]
        assert (budget["window"], budget["spent"], budget["left"]) == ("lifetime", spent, 1.0 - spent)


def test_quote_warns_of_the_key_that_would_be_refused(gateway: RunningGateway) -> None:
    with make_client(gateway.url, create_key(gateway, budget={"week": "0.000001"})["key"]) as client:
        quote = client.post("/v1/quotes", json=BODY).json()
    [budget] = quote["budgets"]
    assert (budget["owner"], budget["kind"], budget["sufficient"]) == ("key", "week", False)
    assert any("this API key has" in warning for warning in quote["warnings"])


@pytest.mark.parametrize(
    ("budget", "param"),
    [({"day": "5,00"}, "budget.day"), ({"day": "-1"}, "budget.day"), ({"year": "5.00"}, "budget.year")],
)
def test_invalid_budget_of_a_key_is_named(gateway: RunningGateway, budget: dict[str, str], param: str) -> None:
    with open_admin_client(gateway.url) as admin:
        answer = admin.post(KEYS_PATH, json={"team": "design", "budget": budget})
    assert (answer.status_code, parse_error(answer)["param"]) == (400, param)


def test_admin_key_has_no_budget(gateway: RunningGateway) -> None:
    with open_admin_client(gateway.url) as admin:
        answer = admin.post(KEYS_PATH, json={"scopes": ["admin"], "budget": {"day": "5.00"}})
    assert (answer.status_code, parse_error(answer)["param"]) == (400, "budget")


def test_budget_of_a_key_is_in_its_event(gateway: RunningGateway) -> None:
    created = create_key(gateway, budget={"day": "5.00"})
    with open_admin_client(gateway.url) as admin:
        events = admin.get("/v1/admin/events").json()["data"]
    [event] = [event for event in events if event["key_id"] == created["id"]]
    assert event["details"]["budget"] == {"day": 5.0}


def test_teams_are_listed_with_all_windows(gateway: RunningGateway) -> None:
    with make_client(gateway.url, create_key(gateway)["key"]) as client:
        assert client.post(JOBS_PATH, json=BODY, headers=WAIT).status_code == 200
    with open_admin_client(gateway.url) as admin:
        teams = {team["name"]: team for team in admin.get("/v1/admin/teams").json()["data"]}
    budget = teams["design"]["budget"]
    assert list(budget) == ["day", "week", "month", "lifetime"]
    assert 0 < budget["day"]["spent"] <= budget["week"]["spent"] <= budget["lifetime"]["spent"]


def test_expired_override_is_an_event_and_a_line_of_the_log(gateway: RunningGateway) -> None:
    created = create_key(gateway, budget={"month": "0.000001"})
    body = {"team": "design", "key_id": created["id"], "window": "month", "amount": "0.50", "duration": "1s"}
    with make_client(gateway.url, created["key"]) as client, open_admin_client(gateway.url) as admin:
        assert client.post("/v1/admin/budgets", json=body | {"reason": "a test"}).status_code == 403
        override = admin.post("/v1/admin/budgets", json=body | {"reason": "a test"}).json()
        assert (override["configured"], override["amount"]) == (0.000001, 0.5)

        def find_event() -> dict[str, Any] | None:
            events = admin.get("/v1/admin/events").json()["data"]
            found = [event for event in events if event["details"].get("override") == override["id"]]
            return found[0] if len(found) > 1 else None

        event = wait_until(find_event, "the override expires")
        assert event is not None
        assert (event["action"], event["actor"]) == ("budget_override_expired", "gateway")
        assert event["details"]["reason"] == "a test"
        listed = admin.get("/v1/admin/budgets?team=design").json()["data"]
        assert [item["overrides"] for item in listed if item["key_id"] == created["id"]] == [[]]
        expect_refusal(client.post(JOBS_PATH, json=BODY), "this API key has $0.000001 of $0.000001 left")
    wait_until(lambda: '"budget_override_expired"' in gateway.stderr, "the log has the line")


def test_override_lets_a_key_order_at_once_until_it_is_ended(gateway: RunningGateway) -> None:
    created = create_key(gateway, budget={"day": "0.000001"})
    options = ("--url", gateway.url, "--admin-key", ADMIN_KEY)
    with make_client(gateway.url, created["key"]) as client, open_admin_client(gateway.url) as admin:
        expect_refusal(client.post(JOBS_PATH, json=BODY), "this API key has")
        arguments = ("--key", created["id"], "--window", "day", "--to", "5.00", "--for", "1h", "--reason", "a test")
        raised = run_command("budgets", "raise", "design", *arguments, "--json", *options)
        assert raised.returncode == 0, raised.stderr
        assert client.post(JOBS_PATH, json=BODY, headers=WAIT).status_code == 200
        assert client.post("/v1/quotes", json=BODY).json()["budgets"][0]["limit"] == 5.0
        listed = run_command("budgets", "--team", "design", *options)
        assert created["id"] in listed.stdout
        override = json.loads(raised.stdout)["id"]
        assert override in listed.stdout
        assert run_command("budgets", "end", override, *options).returncode == 0
        expect_refusal(client.post(JOBS_PATH, json=BODY), "this API key has $0.00 of $0.000001 left")
        answer = admin.delete(f"/v1/admin/budgets/{override}")
        assert (answer.status_code, parse_error(answer)["code"]) == (404, "budget_override_not_found")
        events = admin.get("/v1/admin/events").json()["data"]
        [event] = [event for event in events if event["details"].get("override") == override][1:]
        assert event["action"] == "budget_raised"
        assert (event["key_id"], event["details"]["reason"]) == (created["id"], "a test")
