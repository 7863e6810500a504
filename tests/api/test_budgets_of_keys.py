"""Budgets of API keys and teams, as callers and admins see them."""

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, parse_error
from tests.api.job_requests import BODY
from tests.harness.gateway_runner import RunningGateway, make_client
from tests.harness.key_admin import KEYS_PATH, create_key, open_admin_client

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
