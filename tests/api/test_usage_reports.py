"""`GET /v1/usage` reports the money of jobs: to a team its own, to an admin that of all teams."""

import csv
import io
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest

from tests.api.error_responses import JOBS_PATH, expect_final_error
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway, make_client
from tests.harness.key_admin import create_key, open_admin_client

USAGE_PATH, LEDGER_PATH = "/v1/usage", "/v1/admin/ledger"


@pytest.fixture
def admin(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with open_admin_client(gateway.url) as client:
        yield client


def order_images(gateway: RunningGateway, key: str, n: int = 1) -> float:
    """Orders images, and returns their cost."""
    with make_client(gateway.url, key) as client:
        body = {"prompt": f"a lighthouse {uuid4()}", "n": n, "quality": "low"}
        answer = client.post(JOBS_PATH, json=body, headers={"prefer": "wait=30"})
        assert answer.status_code == 200, answer.text
        return float(answer.json()["usage"]["cost"])


def test_team_sees_its_spend_by_key(gateway: RunningGateway) -> None:
    first, second = create_key(gateway, "marketing"), create_key(gateway, "marketing")
    costs = {first["id"]: order_images(gateway, first["key"], 2), second["id"]: order_images(gateway, second["key"])}
    with make_client(gateway.url, first["key"]) as client:
        report = client.get(USAGE_PATH, params={"since": "1d", "group_by": "key,model"}).json()
    rows = {row["key"]: row for row in report["data"]}
    assert {key: rows[key]["spend"] for key in costs} == costs
    assert {key: rows[key]["images"] for key in costs} == {first["id"]: 2, second["id"]: 1}
    assert (report["team"], report["group_by"]) == ("marketing", ["key", "model"])
    assert report["total"]["images"] == sum(row["images"] for row in report["data"])


def test_admin_sees_all_teams_or_one(gateway: RunningGateway, admin: httpx.Client) -> None:
    for team in ("design", "marketing"):
        order_images(gateway, create_key(gateway, team)["key"])
    rows = {row["team"]: row for row in admin.get(USAGE_PATH, params={"group_by": "team"}).json()["data"]}
    assert {"design", "marketing"} <= rows.keys()
    one = admin.get(USAGE_PATH, params={"team": "design", "group_by": "hour", "since": "1d"}).json()
    assert (one["team"], one["total"]["images"]) == ("design", rows["design"]["images"])


def test_team_may_not_ask_for_another(gateway: RunningGateway) -> None:
    with make_client(gateway.url, create_key(gateway, "design")["key"]) as client:
        expect_final_error(client.get(USAGE_PATH, params={"team": "marketing"}), 403, "insufficient_scope")
        assert client.get(USAGE_PATH, params={"team": "design"}).status_code == 200
        expect_final_error(client.get(LEDGER_PATH), 403, "insufficient_scope")


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        (USAGE_PATH, "since=soon", "since"),
        (USAGE_PATH, "until=soon", "until"),
        (USAGE_PATH, "group_by=people", "group_by"),
        (USAGE_PATH, "since=8d&group_by=hour", "since"),
        (LEDGER_PATH, "lines=capture", "lines"),
        (LEDGER_PATH, "limit=0", "limit"),
    ],
)
def test_invalid_parameter_is_named(admin: httpx.Client, path: str, query: str, name: str) -> None:
    error = expect_final_error(admin.get(f"{path}?{query}"), 400, "invalid_value")
    assert error["param"] == name


def test_command_reads_a_running_gateway(gateway: RunningGateway, admin: httpx.Client) -> None:
    order_images(gateway, create_key(gateway, "design")["key"])
    options = {"IGW_URL": gateway.url, "IGW_ADMIN_KEY": ADMIN_KEY}
    result = run_command("ledger", "--since", "1d", "--csv", **options)
    rows = {row["team"]: row for row in csv.DictReader(io.StringIO(result.stdout))}
    report = admin.get(USAGE_PATH, params={"since": "1d", "group_by": "team"}).json()
    assert {team: float(row["spend"]) for team, row in rows.items()} == {
        row["team"]: row["spend"] for row in report["data"]
    }
    assert run_command("ledger", "--lines", "excess", **options).returncode == 0
    refused = run_command("ledger", "--since", "soon", **options)
    assert (refused.returncode, "Invalid value for 'since'" in refused.stderr) == (1, True)
