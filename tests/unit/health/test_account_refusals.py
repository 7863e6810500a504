"""A refused account stays without orders until a check passes: on this replica and on the others."""

import pytest

from gateway.health.account_check import AccountCheck, CheckOutcome
from gateway.health.circuit_breaker import BreakerState, Refusal
from gateway.health.health_tracker import HealthTracker
from gateway.timeouts_and_intervals import HealthTiming
from providers.faults import FaultKind
from tests.unit.health.health_samples import (
    OTHER_ACCOUNT,
    RUNS_HIGH,
    START,
    is_healthy,
    make_account,
    make_failure,
    make_success,
)

ACCOUNT = RUNS_HIGH.account
MAX_OPEN_SECONDS = HealthTiming().refused.max_seconds
WEEK = 7 * 86_400.0
BALANCE = 20_000_000


def make_check(
    checked_at: float = START, outcome: CheckOutcome = CheckOutcome.VALID, balance: int | None = BALANCE
) -> AccountCheck:
    return AccountCheck(checked_at, outcome, balance)


def make_checked_tracker(check: AccountCheck | None = None, name: str = "") -> HealthTracker:
    """Returns health of accounts that were checked before."""
    health = HealthTracker(name)
    health.configure({name: make_account(name) for name in (ACCOUNT, OTHER_ACCOUNT.account)}, START)
    health.record_check(ACCOUNT, check or make_check(), START)
    return health


def refuse(health: HealthTracker, fault: FaultKind, now: float = START + 1) -> None:
    health.record(RUNS_HIGH, make_failure(fault, seconds=0.1), now)


@pytest.mark.parametrize("fault", [FaultKind.INVALID_KEY, FaultKind.NO_CREDIT])
def test_refused_account_is_never_half_open(fault: FaultKind) -> None:
    health = make_checked_tracker()
    refuse(health, fault)
    for seconds in (60, MAX_OPEN_SECONDS, WEEK):
        assert health.acquire_permit(RUNS_HIGH, START + seconds) is None
        assert health.get_account_breaker_state(ACCOUNT, START + seconds) is BreakerState.OPEN
        assert health.get_signals(RUNS_HIGH, START + seconds).refusal is fault
    assert is_healthy(health, OTHER_ACCOUNT, START + 60)


def test_successful_order_does_not_end_a_refusal_and_a_check_does() -> None:
    health = make_checked_tracker()
    refuse(health, FaultKind.INVALID_KEY)
    health.record(RUNS_HIGH, make_success(), START + 10)
    health.record_accepted(ACCOUNT, 0.1, START + 11)
    assert not is_healthy(health, RUNS_HIGH, START + 12)
    health.record_check(ACCOUNT, make_check(START + 13), START + 14)
    assert is_healthy(health, RUNS_HIGH, START + 14)


def test_check_sent_before_the_refusal_does_not_end_it() -> None:
    health = make_checked_tracker()
    refuse(health, FaultKind.INVALID_KEY)
    health.record_check(ACCOUNT, make_check(START + 0.5), START + 2)
    assert not is_healthy(health, RUNS_HIGH, START + 2)


@pytest.mark.parametrize(
    ("fault", "outcome", "is_over"),
    [
        (FaultKind.INVALID_KEY, CheckOutcome.VALID, True),
        (FaultKind.INVALID_KEY, CheckOutcome.LOW_CREDIT, True),
        (FaultKind.INVALID_KEY, CheckOutcome.UNSUPPORTED, True),
        (FaultKind.INVALID_KEY, CheckOutcome.INVALID_KEY, False),
        (FaultKind.NO_CREDIT, CheckOutcome.VALID, True),
        (FaultKind.NO_CREDIT, CheckOutcome.LOW_CREDIT, False),
        (FaultKind.NO_CREDIT, CheckOutcome.UNSUPPORTED, True),
        (FaultKind.NO_CREDIT, CheckOutcome.INVALID_KEY, False),
    ],
)
def test_check_ends_a_refusal_only_if_its_reason_is_gone(
    fault: FaultKind, outcome: CheckOutcome, is_over: bool
) -> None:
    health = make_checked_tracker()
    refuse(health, fault)
    health.record_check(ACCOUNT, make_check(START + 10, outcome), START + 11)
    assert is_healthy(health, RUNS_HIGH, START + 11) is is_over


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (make_check(outcome=CheckOutcome.UNSUPPORTED, balance=None), FaultKind.INVALID_KEY),
        (make_check(balance=None), FaultKind.NO_CREDIT),
        (make_check(), FaultKind.FORBIDDEN),
    ],
)
def test_refusal_that_no_check_can_end_is_ended_by_a_probe_order(check: AccountCheck, fault: FaultKind) -> None:
    """A seller without a balance, or without a query for this key, and a 403, which may be about the order."""
    health = make_checked_tracker(check)
    refuse(health, fault)
    assert health.acquire_permit(RUNS_HIGH, START + 30) is None
    assert health.acquire_permit(RUNS_HIGH, START + 62)


def test_account_without_a_check_is_tested_by_a_probe_order() -> None:
    health = HealthTracker()
    refuse(health, FaultKind.INVALID_KEY)
    assert health.acquire_permit(RUNS_HIGH, START + 62)


def test_check_that_orders_contradict_is_not_trusted_again_before_an_order_succeeds() -> None:
    """The query of the account accepts a key that orders do not. Otherwise each check would cost another order."""
    health = make_checked_tracker()
    refuse(health, FaultKind.INVALID_KEY)
    health.record_check(ACCOUNT, make_check(START + 10), START + 11)
    refuse(health, FaultKind.INVALID_KEY, START + 20)
    assert health.get_account_refusal(ACCOUNT, START + 21) is Refusal.NONE
    health.record_check(ACCOUNT, make_check(START + 30), START + 31)
    assert health.acquire_permit(RUNS_HIGH, START + 50) is None
    assert health.acquire_permit(RUNS_HIGH, START + 82), "an open time passes before the next order"
    health.record(RUNS_HIGH, make_success(1.0), START + 84)
    refuse(health, FaultKind.INVALID_KEY, START + 90)
    assert health.get_account_refusal(ACCOUNT, START + 90) is Refusal.INVALID_KEY


def test_new_key_ends_a_refusal_at_once_and_the_next_one_waits_for_a_check_again() -> None:
    health = make_checked_tracker()
    refuse(health, FaultKind.INVALID_KEY)
    health.configure({ACCOUNT: make_account("new address")}, START + 10)
    assert is_healthy(health, RUNS_HIGH, START + 10)
    assert health.get_account_check(ACCOUNT) == make_check(0.0), "the check of the former key counts as outdated"
    refuse(health, FaultKind.INVALID_KEY, START + 20)
    assert health.acquire_permit(RUNS_HIGH, START + WEEK) is None


@pytest.mark.parametrize("clock_lead", [0.0, 20.0])
def test_refusal_and_its_end_are_shared(clock_lead: float) -> None:
    """`clock_lead`: by which the clock of the replica is ahead whose order was refused."""
    here, there = make_checked_tracker(name="here"), HealthTracker("there")
    there.configure({name: make_account(name) for name in (ACCOUNT, OTHER_ACCOUNT.account)}, START)
    refuse(here, FaultKind.NO_CREDIT, START + clock_lead + 1)
    there.merge_snapshots({"here": here.make_snapshot(START + clock_lead + 2)}, START + 2)
    assert there.get_account_refusal(ACCOUNT, START + 2) is Refusal.NO_CREDIT
    assert there.acquire_permit(RUNS_HIGH, START + WEEK) is None
    there.record_check(ACCOUNT, make_check(START + 40), START + 41)
    assert is_healthy(there, RUNS_HIGH, START + 41)
    here.merge_snapshots({"there": there.make_snapshot(START + 42)}, START + clock_lead + 42)
    assert is_healthy(here, RUNS_HIGH, START + clock_lead + 42)
    there.merge_snapshots({"here": here.make_snapshot(START + clock_lead + 43)}, START + 43)
    assert is_healthy(there, RUNS_HIGH, START + 43)


def test_refusal_after_an_outage_needs_a_check() -> None:
    health = make_checked_tracker()
    for _ in range(5):
        health.record(RUNS_HIGH, make_failure(FaultKind.NOT_SENT), START)
    assert health.acquire_permit(RUNS_HIGH, START + 31), "the probe order"
    refuse(health, FaultKind.INVALID_KEY, START + 32)
    assert health.acquire_permit(RUNS_HIGH, START + WEEK) is None


def test_replicas_take_turns_by_name() -> None:
    replicas = {name: make_checked_tracker(name=name) for name in ("a", "b", "c")}
    snapshots = {name: health.make_snapshot(START) for name, health in replicas.items()}
    for health in replicas.values():
        health.merge_snapshots({**snapshots, "limits a": b"something else"}, START + 1)
    assert [health.replica_position for health in replicas.values()] == [0, 1, 2]
