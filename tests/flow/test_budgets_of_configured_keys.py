"""API keys of teams.yaml have budgets of their own, as keys of the store have. On each store, over real connections."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.flow.flow_config import GatewaySetup
from tests.flow.gateway_on_store import GatewayAndStore, make_fixture_on_each_store
from tests.flow.order_flow import FlowGateway
from tests.harness.cli_runner import run_command
from tests.harness.gateway_runner import ADMIN_KEY, make_client
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until

TEAM = "other-team"
# It costs 0.009 USD.
BODY = {"prompt": "a lighthouse", "quality": "low", "provider": {"only": ["runflow-runs"]}}
# Only one test orders with each of the first two keys. The third one has no budget.
LIMITED, RELOADED, PLAIN = KEYS = ("env:IGW_FLOW_LIMITED_KEY", "env:IGW_FLOW_RELOADED_KEY", "env:IGW_FLOW_PLAIN_KEY")
SETUP = GatewaySetup(
    other_team={"keys": KEYS, "key_budgets": {LIMITED: {"day": "0.010", "week": "1.00"}}},
    environ={"IGW_ADMIN_KEY": ADMIN_KEY, **{key.removeprefix("env:"): f"igw_{key}" for key in KEYS}},
)

gateway_and_store = make_fixture_on_each_store(SETUP)


@pytest.fixture
def gateway(gateway_and_store: GatewayAndStore, sandbox: RunningSandbox) -> FlowGateway:
    """The gateway, with a sandbox in which no fault of an earlier test is left."""
    return gateway_and_store[0]


def open_client(gateway: FlowGateway, reference: str) -> httpx.Client:
    return make_client(gateway.url, f"igw_{reference}")


def order(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/jobs", json=BODY, headers={"prefer": "wait=30"})


def buy_image(client: httpx.Client) -> None:
    answer = order(client)
    assert (answer.status_code, answer.json()["status"]) == (200, "completed"), answer.text


def get_refusal(client: httpx.Client) -> str:
    answer = order(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota"), answer.text
    return str(answer.json()["error"]["message"])


@contextmanager
def set_budget(gateway: FlowGateway, reference: str, **budget: str) -> Iterator[None]:
    """Gives the key a budget in teams.yaml and reloads; restores and reloads after the block."""
    path = gateway.folder / "config" / "teams.yaml"
    before = path.read_text()
    config = json.loads(before)
    config["teams"][TEAM]["key_budgets"][reference] = budget
    path.write_text(json.dumps(config))
    try:
        gateway.reload_config()
        yield
    finally:
        path.write_text(before)
        gateway.reload_config()


def test_key_beyond_its_budget_is_refused_and_its_team_is_not(gateway: FlowGateway) -> None:
    with (
        open_client(gateway, LIMITED) as client,
        open_client(gateway, PLAIN) as other,
        make_client(gateway.url, ADMIN_KEY) as admin,
    ):
        buy_image(client)
        assert "this API key has $0.001 of $0.01 left for the day" in get_refusal(client)
        buy_image(other)
        budgets = client.post("/v1/quotes", json=BODY).json()["budgets"]
        assert {(budget["owner"], budget["kind"], budget["spent"]) for budget in budgets} == {
            ("key", "day", 0.009),
            ("key", "week", 0.009),
        }
        assert other.post("/v1/quotes", json=BODY).json()["budgets"] == []
        listed = admin.get("/v1/admin/budgets", params={"team": TEAM}).json()["data"]
        shown = {(item["key_id"], item["window"], item["limit"], item["spent"]) for item in listed}
        assert shown == {(LIMITED, "day", 0.01, 0.009), (LIMITED, "week", 1.0, 0.009)}
        events = {"key": LIMITED, "window": "day", "threshold": 80}
        wait_until(
            lambda: [line for line in gateway.read_log_lines() if events.items() <= line.items()],
            "the threshold is announced",
        )
        check_override(gateway, client)
        answer = admin.patch(f"/v1/admin/keys/{LIMITED}", json={"budget": {"day": "5.00"}})
        assert (answer.status_code, "is in teams.yaml" in answer.json()["error"]["message"]) == (409, True)


def check_override(gateway: FlowGateway, client: httpx.Client) -> None:
    """Raises the budget for a while by the command line."""
    options = ("--url", gateway.url, "--admin-key", ADMIN_KEY)
    arguments = ("--key", LIMITED, "--window", "day", "--to", "0.50", "--for", "1h", "--reason", "a test")
    raised = run_command("budgets", "raise", TEAM, *arguments, "--json", *options)
    assert raised.returncode == 0, raised.stderr
    override = json.loads(raised.stdout)
    assert (override["key_id"], override["configured"]) == (LIMITED, 0.01)
    buy_image(client)
    assert LIMITED in run_command("budgets", "--team", TEAM, *options).stdout
    assert run_command("budgets", "end", override["id"], *options).returncode == 0
    assert "this API key has $0.00 of $0.01 left" in get_refusal(client)


def test_budget_of_a_reload_applies_to_what_was_spent_before(gateway: FlowGateway) -> None:
    with open_client(gateway, RELOADED) as client:
        buy_image(client)
        with set_budget(gateway, RELOADED, lifetime="0.009"):
            assert "this API key has $0.00 of $0.009 left" in get_refusal(client)
        with set_budget(gateway, RELOADED, lifetime="0.018"):
            buy_image(client)
            get_refusal(client)
        buy_image(client)
