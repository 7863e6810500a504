"""Which failures open the circuit breaker of an account or a cell, for how long, and what closes it."""

from math import inf, nan

import pytest

from gateway.health.health_tracker import HealthTracker
from gateway.routing.signals import CellSignals
from providers.faults import VERDICTS, FaultKind, HealthScope
from tests.unit.health.health_samples import (
    ALL_KEYS,
    CATALOGUE,
    OTHER_ACCOUNT,
    RUN_HIGH,
    RUNS_HIGH,
    RUNS_LOW,
    SCOPELESS_FAULTS,
    START,
    is_healthy,
    make_failure,
    make_success,
    make_tracker,
    make_tracker_with_failures,
)

REJECTION_FAULTS = [FaultKind.INVALID_KEY, FaultKind.NO_CREDIT, FaultKind.FORBIDDEN]
OUTAGE_FAULTS = [FaultKind.NOT_SENT, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED]
CELL_FAULTS = [kind for kind, verdict in VERDICTS.items() if verdict.health_scope is HealthScope.CELL]


def test_every_account_fault_is_covered() -> None:
    account_faults = {kind for kind, verdict in VERDICTS.items() if verdict.health_scope is HealthScope.ACCOUNT}
    assert account_faults == {*REJECTION_FAULTS, *OUTAGE_FAULTS, FaultKind.RATE_LIMITED}


# --- accounts


@pytest.mark.parametrize("kind", REJECTION_FAULTS)
def test_rejected_key_opens_breaker_of_account_at_once(kind: FaultKind) -> None:
    health = make_tracker(kind)
    healthy = {key: is_healthy(health, key, START + 59.9) for key in ALL_KEYS}
    assert healthy == {RUNS_HIGH: False, RUNS_LOW: False, RUN_HIGH: False, OTHER_ACCOUNT: True}


@pytest.mark.parametrize("kind", OUTAGE_FAULTS)
def test_five_unaccepted_orders_in_a_row_open_breaker_of_account(kind: FaultKind) -> None:
    assert is_healthy(make_tracker(kind, 4), RUN_HIGH, START)
    health = make_tracker(kind, 5)
    assert not is_healthy(health, RUN_HIGH, START + 29.9)
    assert is_healthy(health, OTHER_ACCOUNT, START)
    assert is_healthy(health, RUN_HIGH, START + 30)


def test_success_resets_failure_count() -> None:
    health = make_tracker(FaultKind.NOT_SENT, 4)
    health.record(RUN_HIGH, make_success(), START)
    for _ in range(4):
        health.record(RUNS_HIGH, make_failure(FaultKind.OVERLOADED), START)
    assert is_healthy(health, RUNS_HIGH, START)


def test_accepted_order_that_failed_resets_failure_count() -> None:
    health = make_tracker(FaultKind.NOT_SENT, 4)
    health.record(RUN_HIGH, make_failure(FaultKind.ORDER_FAILED, seconds=5), START)
    health.record(RUN_HIGH, make_failure(FaultKind.NOT_SENT), START)
    assert is_healthy(health, RUN_HIGH, START)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [(None, 10), (30, 30), (0, 1), (-5, 1), (86_400, 300), (inf, 300), (-inf, 1), (nan, 10), (0.2, 1)],
)
def test_rate_limit_opens_breaker_for_bounded_retry_after(retry_after: float | None, seconds: float) -> None:
    health = make_tracker(FaultKind.RATE_LIMITED, retry_after=retry_after)
    assert not is_healthy(health, RUN_HIGH, START + seconds - 0.01)
    assert is_healthy(health, RUN_HIGH, START + seconds)
    assert all(health.acquire_permit(RUN_HIGH, START + seconds) for _ in range(3)), "no probe is needed"


def test_second_rate_limit_extends_but_never_shortens_backoff() -> None:
    health = make_tracker(FaultKind.RATE_LIMITED, retry_after=30)
    health.record(RUN_HIGH, make_failure(FaultKind.RATE_LIMITED, retry_after=1), START + 5)
    assert not is_healthy(health, RUN_HIGH, START + 29)
    health.record(RUN_HIGH, make_failure(FaultKind.RATE_LIMITED, retry_after=60), START + 29)
    assert not is_healthy(health, RUN_HIGH, START + 88)
    assert is_healthy(health, RUN_HIGH, START + 89)


def test_rejected_key_outlasts_shorter_backoff() -> None:
    health = make_tracker(FaultKind.RATE_LIMITED, retry_after=5)
    health.record(RUN_HIGH, make_failure(FaultKind.INVALID_KEY), START + 1)
    assert not is_healthy(health, RUN_HIGH, START + 60)
    health.record(RUN_HIGH, make_failure(FaultKind.RATE_LIMITED, retry_after=1), START + 2)
    assert not is_healthy(health, RUN_HIGH, START + 60)
    assert health.acquire_permit(RUN_HIGH, START + 61)
    assert not health.acquire_permit(RUN_HIGH, START + 61), "a probe is needed all the same"


# --- cells


@pytest.mark.parametrize("kind", CELL_FAULTS)
def test_five_failures_in_a_row_open_breaker_of_cell_only(kind: FaultKind) -> None:
    assert is_healthy(make_tracker(kind, 4), RUNS_HIGH, START)
    health = make_tracker(kind, 5)
    healthy = {key: is_healthy(health, key, START + 29.9) for key in ALL_KEYS}
    assert healthy == {RUNS_HIGH: False, RUNS_LOW: True, RUN_HIGH: True, OTHER_ACCOUNT: True}
    assert is_healthy(health, RUNS_HIGH, START + 30)


def test_half_of_ten_failures_open_breaker_of_cell() -> None:
    assert is_healthy(make_tracker_with_failures(2, 9, 1.0), RUNS_HIGH, START + 9)
    assert not is_healthy(make_tracker_with_failures(2, 11, 1.0), RUNS_HIGH, START + 11)


def test_one_failure_in_three_keeps_breaker_of_cell_closed() -> None:
    assert is_healthy(make_tracker_with_failures(3, 300, 1.0), RUNS_HIGH, START + 300)


def test_failures_older_than_two_minutes_are_forgotten() -> None:
    assert is_healthy(make_tracker_with_failures(2, 100, 15.0), RUNS_HIGH, START + 100 * 15)


@pytest.mark.parametrize("kind", SCOPELESS_FAULTS)
def test_faults_without_health_scope_never_count(kind: FaultKind) -> None:
    health = make_tracker(kind, 100)
    assert all(is_healthy(health, key, START) for key in ALL_KEYS)


def test_slowness_and_downgrades_block_no_order() -> None:
    health = HealthTracker()
    for _ in range(100):
        health.record(RUNS_HIGH, make_success(900.0, is_as_ordered=False), START)
    assert health.get_signals(RUNS_HIGH, START) == CellSignals(
        p50=900.0, p90=900.0, conformance=0.0, faithful=False, deliveries=50
    )
    assert all(health.acquire_permit(RUNS_HIGH, START) for _ in range(3))


def test_last_seller_may_become_unhealthy_too() -> None:
    """Routing decides whether an unhealthy seller is used when no healthy one is left."""
    health = HealthTracker()
    for key in ALL_KEYS:
        health.record(key, make_failure(FaultKind.INVALID_KEY), START)
    assert not any(
        signals.healthy for signals in health.get_catalogue_signals(CATALOGUE, START, lambda _: 0.0).values()
    )
