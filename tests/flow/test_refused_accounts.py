"""An account that its seller refuses gets no order from any replica, until a free check of the account passes.

The open durations are short: a breaker that a probe order could close would be half-open several times in each test.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.timeouts_and_intervals import OpenDuration
from tests.flow.flow_config import RUNAPI, RUNFLOW_RUNS, GatewaySetup
from tests.flow.gateway_on_store import make_replicas_fixture
from tests.flow.job_checks import get_attempted_sellers
from tests.flow.order_flow import FlowGateway, OrderFlow
from tests.harness.gateway_runner import ADMIN_KEY, make_client
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import FAST_TIMINGS, change_timing
from tests.harness.wait import wait_until

ACCOUNT = "runapi"
MAX_OPEN_SECONDS = 0.4
SETUP = GatewaySetup(
    timing=change_timing(
        FAST_TIMINGS,
        health={"refused": OpenDuration(initial_seconds=0.2, max_seconds=MAX_OPEN_SECONDS)},
        maintenance={"refused_account_interval_seconds": 0.3, "account_poll_seconds": 0.1},
    ),
    environ={"IGW_ADMIN_KEY": ADMIN_KEY},
)
redis_replicas = make_replicas_fixture(SETUP)


@pytest.fixture
def flows(redis_replicas: Any, sandbox: RunningSandbox) -> Iterator[tuple[OrderFlow, OrderFlow]]:
    (first, second), (_, raw) = redis_replicas
    here, there = (OrderFlow(gateway, sandbox, raw) for gateway in (first, second))
    for gateway in (first, second):
        wait_until(lambda gateway=gateway: get_account(gateway)["checked_at"], "the account was checked")
    yield here, there
    second.wait_until_idle()
    here.check_ledger_matches_invoice()


def get_account(gateway: FlowGateway) -> dict[str, Any]:
    with make_client(gateway.url, ADMIN_KEY) as client:
        accounts = client.get("/v1/admin/accounts").raise_for_status().json()["data"]
    return next(account for account in accounts if account["name"] == ACCOUNT)


def read_account_events(flows: tuple[OrderFlow, OrderFlow], log_lengths: list[int]) -> list[tuple[str, str]]:
    """Returns the events since then, of both replicas."""
    lines = [
        line
        for flow, length in zip(flows, log_lengths, strict=True)
        for line in flow.gateway.read_log_lines()[length:]
        if line["event"].startswith("account ")
    ]
    return [(line["event"], line["fault"]) for line in lines]


def refuse_key(sandbox: RunningSandbox) -> None:
    for route in ("submit", "account"):
        sandbox.inject_fault("status", vendor="runapi", route=route, status=401)


def restore_key(sandbox: RunningSandbox) -> None:
    sandbox.call_control_route("DELETE", "/faults")


def spend_balance(sandbox: RunningSandbox) -> None:
    sandbox.set_balance("runapi", "0.05")


def add_credit(sandbox: RunningSandbox) -> None:
    sandbox.set_balance("runapi", "20")


CASES = {
    "invalid_key": (refuse_key, restore_key, "Replace the key"),
    "no_credit": (spend_balance, add_credit, "Add credit"),
}


@pytest.mark.parametrize("reason", CASES)
def test_only_a_free_check_closes_the_breaker_of_a_refused_account(
    flows: tuple[OrderFlow, OrderFlow], reason: str
) -> None:
    here, there = flows
    refuse, mend, remedy = CASES[reason]
    log_lengths = [len(flow.gateway.read_log_lines()) for flow in flows]
    refuse(here.sandbox)
    assert get_attempted_sellers(here.order_with_failover(RUNAPI)) == [RUNAPI, RUNFLOW_RUNS]
    for flow in flows:
        wait_until(lambda flow=flow: get_account(flow.gateway)["refusal"] == reason, "the replica avoids the account")
        account = get_account(flow.gateway)
        assert (account["circuit_breaker"], account["remedy"].startswith(remedy)) == ("open", True)
        assert flow.gateway.read_metric("igw_account_refused", account=ACCOUNT, reason=reason) == 1

    began_at = time.monotonic()
    while time.monotonic() < began_at + 4 * MAX_OPEN_SECONDS:
        for flow in flows:
            assert get_attempted_sellers(flow.order_with_failover(RUNAPI)) == [RUNFLOW_RUNS]
    assert here.count_orders(RUNAPI) == 1, "there was no probe order"
    ranked = there.gateway.request_quote(quality="low")["ranked"]
    [reasons] = [entry["reasons"] for entry in ranked if entry["seller"] == RUNAPI]
    assert any(text.startswith("refused, ranked after healthy sellers until a free check") for text in reasons)

    mend(here.sandbox)
    for flow in flows:
        wait_until(lambda flow=flow: get_account(flow.gateway)["refusal"] is None, "the account is used again")
        assert flow.gateway.read_metric("igw_account_refused", account=ACCOUNT) == 0
    assert here.count_orders(RUNAPI) == 1, "no order closed the breaker"
    for flow in flows:
        assert get_attempted_sellers(flow.order_with_failover(RUNAPI)) == [RUNAPI]
    events = read_account_events(flows, log_lengths)
    assert set(events) == {("account refused", reason), ("account restored", reason)}
    assert events.count(("account refused", reason)) == 1


def test_order_that_succeeds_at_a_refused_only_seller_closes_nothing(flows: tuple[OrderFlow, OrderFlow]) -> None:
    here, there = flows
    here.sandbox.inject_fault("status", vendor="runapi", route="account", status=401)
    here.sandbox.inject_fault("status", vendor="runapi", route="submit", status=401, times=1)
    assert here.order_images(RUNAPI)["error"]["code"] == "sellers_unavailable"
    assert here.order_images(RUNAPI)["status"] == "completed", "the only seller still gets its orders"
    assert get_account(here.gateway)["refusal"] == "invalid_key"
    restore_key(here.sandbox)
    for flow in (here, there):
        wait_until(lambda flow=flow: get_account(flow.gateway)["refusal"] is None, "the account is used again")
    assert here.order_images(RUNAPI)["status"] == "completed"
