"""The accounts at sellers, for admins: their balances, by the route and by the command."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway, make_client, run_sandboxed_gateway
from tests.harness.wait import wait_for_value


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_sandboxed_gateway(tmp_path_factory.mktemp("accounts")) as running:
        yield running


def list_accounts(gateway: RunningGateway) -> dict[str, dict[str, Any]]:
    with make_client(gateway.url, ADMIN_KEY) as client:
        body = client.get("/v1/admin/accounts").raise_for_status().json()
    return {account["name"]: account for account in body["data"]}


def test_balances_are_those_of_the_sellers(gateway: RunningGateway) -> None:
    accounts = wait_for_value(
        lambda: list_accounts(gateway),
        lambda found: all(account["checked_at"] for account in found.values()),
        "all accounts are checked",
    )
    balances = gateway.sandbox.call_control_route("GET", "/balance")
    for name in ("runflow", "runapi"):
        assert accounts[name]["balance"] == float(balances[name]["usd"])
        assert (accounts[name]["refusal"], accounts[name]["circuit_breaker"]) == (None, "closed")
    text = httpx.get(f"{gateway.url}/metrics", trust_env=False).text
    [shown] = re.findall(r'^igw_account_balance_usd\{account="runapi"\} (\S+)$', text, re.MULTILINE)
    assert float(shown) == float(balances["runapi"]["usd"])
    arguments = ["accounts", "--url", gateway.url, "--admin-key", ADMIN_KEY]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert f"${float(balances['runapi']['usd']):.2f}" in result.output
    assert "BALANCE" in result.output


def test_command_without_an_admin_key_says_what_to_do() -> None:
    result = CliRunner().invoke(main, ["accounts"], env={"IGW_ADMIN_KEY": None})
    assert result.exit_code == 2
    assert "set --admin-key or IGW_ADMIN_KEY" in result.output
