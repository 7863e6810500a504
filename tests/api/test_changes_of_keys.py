"""Admins change API keys that exist: budgets, limits, names and lifetimes. The keys stay valid."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.error_responses import JOBS_PATH, expect_final_error, parse_error
from tests.api.job_requests import BODY
from tests.harness.batch_client import (
    count_results,
    create_batch,
    make_line,
    make_sdk_client,
    read_results,
    wait_for_end,
)
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway, make_client
from tests.harness.key_admin import KEYS_PATH, create_key, is_accepted, open_admin_client
from tests.harness.wait import wait_until

WAIT = {"prefer": "wait=30"}


@pytest.fixture
def admin(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with open_admin_client(gateway.url) as client:
        yield client


def change_key(admin: httpx.Client, key_id: str, **changes: Any) -> dict[str, Any]:
    answer = admin.patch(f"{KEYS_PATH}/{key_id}", json=changes)
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


def order(client: httpx.Client) -> float:
    """Orders an image. Returns its cost."""
    answer = client.post(JOBS_PATH, json=BODY, headers=WAIT)
    assert answer.status_code == 200, answer.text
    cost: float = answer.json()["usage"]["cost"]
    return cost


def get_refusal(client: httpx.Client) -> str:
    answer = client.post(JOBS_PATH, json=BODY)
    assert answer.status_code == 429, answer.text
    error = parse_error(answer)
    assert error["code"] == "insufficient_quota"
    return str(error["message"])


@pytest.mark.parametrize("window", ["day", "week", "month", "lifetime"])
def test_raised_budget_lets_orders_through_at_once_and_a_lowered_one_refuses(
    gateway: RunningGateway, admin: httpx.Client, window: str
) -> None:
    created = create_key(gateway, budget={window: "0.000001"})
    with make_client(gateway.url, created["key"]) as client:
        get_refusal(client)
        changed = change_key(admin, created["id"], budget={window: "1.00"})
        assert (changed["budget"], changed["id"]) == ({window: 1.0}, created["id"])
        assert "key" not in changed
        spent = order(client)
        change_key(admin, created["id"], budget={window: f"{spent / 2:.6f}"})
        assert f"this API key has $0.00 of ${spent / 2:.4f}".rstrip("0") in get_refusal(client)
        change_key(admin, created["id"], budget={window: None})
        order(client)


def test_budget_of_a_key_that_had_none_counts_what_was_spent_and_is_held(
    gateway: RunningGateway, admin: httpx.Client
) -> None:
    created = create_key(gateway)
    with make_client(gateway.url, created["key"]) as client:
        spent = order(client)
        gateway.sandbox.hold_orders()
        running = client.post(JOBS_PATH, json=BODY)
        assert running.status_code == 202
        change_key(admin, created["id"], budget={"day": "5.00", "lifetime": "9.00"})
        for budget in client.post("/v1/quotes", json=BODY).json()["budgets"]:
            assert (budget["owner"], budget["spent"], budget["held"] > 0) == ("key", spent, True)
        change_key(admin, created["id"], budget=None)
        gateway.sandbox.release_orders()
        assert client.get(running.headers["location"], params={"wait": 30}).json()["status"] == "completed"
        change_key(admin, created["id"], budget={"month": "7.00"})
        [budget] = client.post("/v1/quotes", json=BODY).json()["budgets"]
        assert (budget["kind"], budget["spent"], budget["held"]) == ("month", pytest.approx(2 * spent), 0.0)


def test_change_holds_for_the_successor_and_its_predecessor(gateway: RunningGateway, admin: httpx.Client) -> None:
    created = create_key(gateway)
    successor = admin.post(f"{KEYS_PATH}/{created['id']}/rotate", json={}).json()
    change_key(admin, created["id"], budget={"day": "0.000001"}, name="old")
    for key in (created["key"], successor["key"]):
        with make_client(gateway.url, key) as client:
            get_refusal(client)
    assert [admin.get(f"{KEYS_PATH}/{key['id']}").json()["name"] for key in (created, successor)] == ["old", ""]


def test_limits_policies_and_lifetime_change(gateway: RunningGateway, admin: httpx.Client) -> None:
    created = create_key(gateway, limits={"concurrent_jobs": 5}, expires_in="1h")
    changes = {"limits": {"concurrent_jobs": None, "requests_per_minute": 1}, "policies": ["steady"]}
    changed = change_key(admin, created["id"], expires_in="30d", **changes)
    assert (changed["limits"], changed["policies"]) == ({"requests_per_minute": 1}, ["steady"])
    assert changed["expires_at"] - created["expires_at"] > 29 * 86_400
    with make_client(gateway.url, created["key"]) as client:
        order(client)
        assert parse_error(client.post(JOBS_PATH, json=BODY))["code"] == "rate_limit_exceeded"
        change_key(admin, created["id"], limits=None)
        refused = client.post(JOBS_PATH, json=BODY | {"policy": "cheapest"})
        assert expect_final_error(refused, 400)["param"] == "policy"
        restored = change_key(admin, created["id"], policies=None, expires_in=None)
        assert (restored["limits"], restored["policies"], restored["expires_at"]) == ({}, None, None)
        assert client.post(JOBS_PATH, json=BODY | {"policy": "cheapest"}, headers=WAIT).status_code == 200


def test_change_is_an_event_and_a_line_of_the_log(gateway: RunningGateway, admin: httpx.Client) -> None:
    created = create_key(gateway, name="ci", budget={"day": "2.00"})
    change_key(admin, created["id"], name="nightly", budget={"day": "3.50", "week": "9.00"})
    change_key(admin, created["id"], name="nightly")
    events = admin.get("/v1/admin/events").json()["data"]
    [event] = [event for event in events if (event["key_id"], event["action"]) == (created["id"], "key_changed")]
    assert (event["actor"], event["source"], event["team"]) == ("env:IGW_ADMIN_KEY", "127.0.0.1", "design")
    assert event["details"] == {
        "name": {"from": "ci", "to": "nightly"},
        "budget.week": {"from": None, "to": 9.0},
        "budget.day": {"from": 2.0, "to": 3.5},
    }
    assert created["key"].split("_")[2] not in json.dumps(event)

    def list_log_lines() -> list[str]:
        return [line for line in gateway.stderr.splitlines() if '"key_changed"' in line and created["id"] in line]

    wait_until(list_log_lines, "the log has the line")
    assert len(list_log_lines()) == 1


def test_simultaneous_changes_of_different_fields_all_apply(gateway: RunningGateway, admin: httpx.Client) -> None:
    created = create_key(gateway, budget={"day": "1.00"})
    changes: list[dict[str, Any]] = [
        *({"budget": {window: "5.00"}} for window in ("week", "month", "lifetime")),
        *({"limits": {name: 7}} for name in ("requests_per_minute", "images_per_minute", "concurrent_jobs")),
        {"name": "renamed"},
        {"policies": ["steady"]},
    ]
    with ThreadPoolExecutor(len(changes)) as pool:
        list(pool.map(lambda fields: change_key(admin, created["id"], **fields), changes))
    changed = admin.get(f"{KEYS_PATH}/{created['id']}").json()
    assert changed["budget"] == {"day": 1.0, "week": 5.0, "month": 5.0, "lifetime": 5.0}
    assert changed["limits"] == {"requests_per_minute": 7, "images_per_minute": 7, "concurrent_jobs": 7}
    assert (changed["name"], changed["policies"]) == ("renamed", ["steady"])


def test_key_that_does_not_work_is_not_changed(gateway: RunningGateway, admin: httpx.Client) -> None:
    created = create_key(gateway)
    admin.post(f"{KEYS_PATH}/{created['id']}/revoke")
    expired = create_key(gateway, expires_in="1s")
    path = f"{KEYS_PATH}/{expired['id']}"
    wait_until(lambda: admin.get(path).json()["status"] == "expired", "the key expires")
    for key, status in ((created, "revoked"), (expired, "expired")):
        answer = admin.patch(f"{KEYS_PATH}/{key['id']}", json={"expires_in": "90d"})
        message = expect_final_error(answer, 409, "api_key_inactive")["message"]
        assert f"'{key['id']}' is {status}" in message
    expect_final_error(admin.patch(f"{KEYS_PATH}/unknown", json={"name": "x"}), 404, "api_key_not_found")
    for answer in (
        admin.patch(f"{KEYS_PATH}/env:IGW_ADMIN_KEY", json={"name": "x"}),
        admin.post(f"{KEYS_PATH}/env:IGW_ADMIN_KEY/rotate", json={}),
        admin.delete(f"{KEYS_PATH}/env:IGW_ADMIN_KEY"),
    ):
        assert "is in gateway.yaml: change it there" in expect_final_error(answer, 409, "api_key_configured")["message"]


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"budget": {"day": "5,00"}}, "budget.day", "invalid_value"),
        ({"budget": {"day": "-1"}}, "budget.day", "invalid_value"),
        ({"budget": {"day": 5}}, "budget.day", "invalid_value"),
        ({"budget": {"year": "5.00"}}, "budget.year", "unknown_parameter"),
        ({"limits": {"concurrent_jobs": 0}}, "limits.concurrent_jobs", "invalid_value"),
        ({"expires_in": "0"}, "expires_in", "invalid_value"),
        ({"name": None}, "name", "invalid_value"),
        ({"name": "x" * 101}, "name", "invalid_value"),
        ({"policies": ["split"]}, "policies", "invalid_value"),
        ({"nmae": "x"}, "nmae", "unknown_parameter"),
        ({"scopes": ["admin"]}, "scopes", "unsupported_parameter"),
        ({"team": "marketing"}, "team", "unsupported_parameter"),
    ],
)
def test_invalid_change_is_named_and_changes_nothing(
    gateway: RunningGateway, admin: httpx.Client, changes: dict[str, Any], param: str, code: str
) -> None:
    created = create_key(gateway)
    answer = admin.patch(f"{KEYS_PATH}/{created['id']}", json={"name": "renamed"} | changes)
    assert expect_final_error(answer, 400, code)["param"] == param
    assert admin.get(f"{KEYS_PATH}/{created['id']}").json()["name"] == ""


def test_running_batch_gets_the_changed_budget(gateway: RunningGateway, admin: httpx.Client) -> None:
    """Also its lines that wait for their place."""
    created = create_key(gateway, limits={"concurrent_jobs": 2})
    with make_sdk_client(gateway.url, created["key"]) as sdk, make_client(gateway.url, created["key"]) as client:
        gateway.sandbox.hold_orders()
        batch = create_batch(sdk, [make_line(number) for number in range(4)])

        def list_batch_jobs() -> list[str]:
            jobs = client.get(JOBS_PATH).json()["data"]
            return [job["id"] for job in jobs if job["batch"] == batch.id]

        wait_until(list_batch_jobs, "the first line is ordered")
        change_key(admin, created["id"], budget={"day": "0.000001"})
        gateway.sandbox.release_orders()
        ended = wait_for_end(sdk, batch)
        assert count_results(ended) == (4, 1, 3)
        errors = read_results(sdk, ended.error_file_id).values()
        assert {line["response"]["body"]["error"]["code"] for line in errors} == {"insufficient_quota"}


def test_command_changes_a_key_of_a_running_gateway(gateway: RunningGateway, admin: httpx.Client) -> None:
    options = ("--url", gateway.url, "--admin-key", ADMIN_KEY)
    created = create_key(gateway, budget={"day": "0.000001"}, limits={"concurrent_jobs": 3}, expires_in="1h")
    changes = ("--budget-day", "none", "--budget-month", "20.00", "--concurrent-jobs", "none", "--expires", "never")
    result = run_command("keys", "change", created["id"], "--name", "nightly build", *changes, "--json", *options)
    assert result.returncode == 0, result.stderr
    changed = json.loads(result.stdout)
    assert changed == admin.get(f"{KEYS_PATH}/{created['id']}").json()
    assert (changed["name"], changed["budget"], changed["limits"]) == ("nightly build", {"month": 20.0}, {})
    assert changed["expires_at"] is None
    with make_client(gateway.url, created["key"]) as client:
        assert is_accepted(client)
        order(client)
    refused = run_command("keys", "change", "env:IGW_ADMIN_KEY", "--name", "x", *options)
    assert (refused.returncode, "change it there" in refused.stderr) == (1, True)
    events = run_command("keys", "events", *options).stdout
    assert "name=none to nightly build" in events
    assert "budget.month=none to 20.0" in events
