"""A new key, base URL or proxy closes the circuit breaker that the former one opened."""

import pytest
from msgspec.structs import replace

from gateway.catalogue import SellerAccount
from gateway.config.account_proxy import Proxy
from gateway.config.value_types import Secret, sha256_hex
from gateway.health.health_tracker import HealthTracker
from providers.faults import FaultKind
from tests.unit.health.health_samples import (
    OTHER_ACCOUNT,
    RUN_HIGH,
    RUNS_HIGH,
    START,
    is_healthy,
    make_account,
    make_failure,
    make_success,
    send_snapshot,
)

RUNFLOW, RUNAPI = make_account("runflow"), make_account("runapi")
CHANGES = {
    "key": replace(RUNFLOW, api_key=Secret("new")),
    "base URL": replace(RUNFLOW, base_url="https://new.example"),
    "proxy": replace(RUNFLOW, proxy=Proxy("http://proxy.example:3128")),
}


def configure(health: HealthTracker, runflow: SellerAccount, now: float) -> None:
    health.configure({"runflow": runflow, "runapi": RUNAPI}, now)


def make_tripped_tracker(name: str = "", fault: FaultKind = FaultKind.INVALID_KEY, times: int = 1) -> HealthTracker:
    """Returns health that has recorded the fault for both accounts since they were configured."""
    health = HealthTracker(name)
    configure(health, RUNFLOW, START)
    for _ in range(times):
        health.record(RUNS_HIGH, make_failure(fault), START)
        health.record(OTHER_ACCOUNT, make_failure(fault), START)
    return health


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("fault", "times"), [(FaultKind.INVALID_KEY, 1), (FaultKind.FORBIDDEN, 1), (FaultKind.NOT_SENT, 5)]
)
def test_changed_account_accepts_orders_at_once(change: str, fault: FaultKind, times: int) -> None:
    health = make_tripped_tracker(fault=fault, times=times)
    configure(health, CHANGES[change], START + 5)
    assert all(health.acquire_permit(RUN_HIGH, START + 5) for _ in range(3))
    assert not is_healthy(health, OTHER_ACCOUNT, START + 5)


def test_reload_without_a_change_closes_nothing() -> None:
    health = make_tripped_tracker()
    configure(health, make_account("runflow"), START + 5)
    configure(health, replace(RUNFLOW, replay_trusted=True), START + 5)
    assert not is_healthy(health, RUN_HIGH, START + 59)


def test_key_that_was_missing_for_a_while_closes_nothing() -> None:
    health = make_tripped_tracker()
    configure(health, replace(RUNFLOW, api_key=None), START + 5)
    configure(health, RUNFLOW, START + 6)
    assert not is_healthy(health, RUN_HIGH, START + 59)


def test_key_that_was_missing_before_the_new_one_closes_the_breaker() -> None:
    health = make_tripped_tracker()
    configure(health, replace(RUNFLOW, api_key=None), START + 5)
    configure(health, CHANGES["key"], START + 6)
    assert is_healthy(health, RUN_HIGH, START + 6)


def test_refusal_of_an_order_with_the_former_key_opens_nothing() -> None:
    health = make_tripped_tracker()
    configure(health, CHANGES["key"], START + 5)
    health.record(RUNS_HIGH, make_failure(FaultKind.INVALID_KEY, seconds=2), START + 6)
    assert is_healthy(health, RUN_HIGH, START + 6)


def test_refused_new_key_opens_the_breaker_for_a_minute() -> None:
    health = make_tripped_tracker()
    configure(health, CHANGES["key"], START + 5)
    health.record(RUNS_HIGH, make_failure(FaultKind.INVALID_KEY, seconds=1), START + 7)
    assert not is_healthy(health, RUN_HIGH, START + 66)
    assert is_healthy(health, RUN_HIGH, START + 67)


def test_former_key_of_another_replica_opens_nothing() -> None:
    """Each replica notices the new key by itself. One that still has the former key opens its own breaker only."""
    first, second = make_tripped_tracker("a"), make_tripped_tracker("b")
    configure(first, CHANGES["key"], START + 5)
    second.record(RUNS_HIGH, make_failure(FaultKind.INVALID_KEY), START + 60)
    send_snapshot(second, first, 61, name="b")
    assert is_healthy(first, RUN_HIGH, START + 61)
    first.record(RUNS_HIGH, make_success(), START + 63)
    send_snapshot(first, second, 64, name="a")
    assert not is_healthy(second, RUN_HIGH, START + 64), (
        "a success with the new key proves nothing about the former one"
    )
    configure(second, CHANGES["key"], START + 65)
    assert is_healthy(second, RUN_HIGH, START + 65)


def test_replicas_with_the_new_key_share_its_breaker() -> None:
    first, second = make_tripped_tracker("a"), make_tripped_tracker("b")
    for health in (first, second):
        configure(health, CHANGES["key"], START + 5)
    second.record(RUNS_HIGH, make_failure(FaultKind.NO_CREDIT), START + 10)
    send_snapshot(second, first, 11, name="b")
    assert not is_healthy(first, RUN_HIGH, START + 11)
    first.record(RUNS_HIGH, make_success(), START + 14)
    send_snapshot(first, second, 15, name="a")
    assert is_healthy(second, RUN_HIGH, START + 15)


def test_snapshot_does_not_contain_the_key() -> None:
    health = HealthTracker("a")
    configure(health, CHANGES["key"], START)
    health.record(RUNS_HIGH, make_failure(FaultKind.INVALID_KEY), START)
    snapshot = health.make_snapshot(START)
    assert b"runflow" in snapshot
    assert b"new" not in snapshot
    assert sha256_hex("new").encode() not in snapshot
