"""An open circuit breaker becomes half-open in time: one probe order closes it, or opens it for longer."""

import pytest

from gateway.health.circuit_breaker import BreakerState
from gateway.health.health_tracker import HealthTracker
from gateway.timeouts_and_intervals import HealthTiming
from providers.faults import FaultKind
from tests.unit.health.health_samples import (
    RUN_HIGH,
    RUNS_HIGH,
    SCOPELESS_FAULTS,
    START,
    is_healthy,
    make_failure,
    make_success,
    make_tracker,
    make_tracker_with_failures,
)


@pytest.mark.parametrize(
    ("kind", "times", "open_seconds"), [(FaultKind.INVALID_KEY, 1, 60), (FaultKind.ORDER_FAILED, 5, 30)]
)
def test_only_one_probe_is_allowed_when_open_time_ends(kind: FaultKind, times: int, open_seconds: float) -> None:
    health = make_tracker(kind, times)
    assert not health.acquire_permit(RUNS_HIGH, START + open_seconds - 0.01)
    assert health.acquire_permit(RUNS_HIGH, START + open_seconds)
    assert not health.acquire_permit(RUNS_HIGH, START + open_seconds + 5)
    assert not is_healthy(health, RUNS_HIGH, START + open_seconds + 5)


@pytest.mark.parametrize(("kind", "times"), [(FaultKind.NOT_SENT, 5), (FaultKind.SERVER_ERROR, 5)])
def test_breaker_is_half_open_only_while_it_waits_for_a_probe(kind: FaultKind, times: int) -> None:
    """A probe may take minutes. Meanwhile no other order passes, as while the breaker is open."""
    health = make_tracker(kind, times)
    states = [health.get_cell_breaker_state(RUNS_HIGH, START + 29)]
    states.append(health.get_cell_breaker_state(RUNS_HIGH, START + 30))
    assert health.acquire_permit(RUNS_HIGH, START + 40)
    states.append(health.get_cell_breaker_state(RUNS_HIGH, START + 150))
    health.record(RUNS_HIGH, make_failure(kind, seconds=120), START + 160)
    states.append(health.get_cell_breaker_state(RUNS_HIGH, START + 219))
    states.append(health.get_cell_breaker_state(RUNS_HIGH, START + 221))
    health.record(RUNS_HIGH, make_success(10), START + 240)
    states.append(health.get_cell_breaker_state(RUNS_HIGH, START + 240))
    assert states == [
        *(BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.OPEN),
        *(BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED),
    ]


@pytest.mark.parametrize(
    ("kind", "times", "open_times"),
    [
        (FaultKind.NO_CREDIT, 1, [60, 120, 240, 480, 900, 900]),
        (FaultKind.NOT_SENT, 5, [30, 60, 120, 240, 300, 300]),
        (FaultKind.ORDER_FAILED, 5, [30, 60, 120, 240, 300, 300]),
    ],
)
def test_each_failed_probe_doubles_open_time(kind: FaultKind, times: int, open_times: list[float]) -> None:
    health, now = make_tracker(kind, times), START
    for open_seconds in open_times:
        assert not health.acquire_permit(RUNS_HIGH, now + open_seconds - 0.01)
        now += open_seconds
        assert health.acquire_permit(RUNS_HIGH, now)
        health.record(RUNS_HIGH, make_failure(kind), now)
    health.record(RUNS_HIGH, make_success(1.0), now + 1_000)
    for _ in range(times):
        health.record(RUNS_HIGH, make_failure(kind), now + 1_000)
    assert is_healthy(health, RUNS_HIGH, now + 1_000 + open_times[0]), "a success resets the open time"


@pytest.mark.parametrize(
    ("kind", "times"), [(FaultKind.INVALID_KEY, 1), (FaultKind.NOT_SENT, 5), (FaultKind.ORDER_FAILED, 5)]
)
def test_successful_probe_closes_breaker(kind: FaultKind, times: int) -> None:
    health = make_tracker(kind, times)
    assert health.acquire_permit(RUNS_HIGH, START + 60)
    health.record(RUNS_HIGH, make_success(20), START + 80)
    assert all(health.acquire_permit(RUNS_HIGH, START + 80) for _ in range(3))


def test_accepted_order_closes_breaker_of_account_before_it_ends() -> None:
    health = make_tracker(FaultKind.NO_CREDIT)
    assert health.acquire_permit(RUNS_HIGH, START + 60)
    health.record_accepted("runflow", 1.5, START + 61.5)
    assert health.acquire_permit(RUN_HIGH, START + 62)


@pytest.mark.parametrize("kind", [FaultKind.INVALID_KEY, FaultKind.RATE_LIMITED])
def test_earlier_sent_success_does_not_close_breaker(kind: FaultKind) -> None:
    health = make_tracker(kind, retry_after=60)
    health.record(RUN_HIGH, make_success(30), START + 5)
    health.record(RUN_HIGH, make_failure(FaultKind.ORDER_FAILED, seconds=30), START + 6)
    assert not is_healthy(health, RUN_HIGH, START + 7)


def test_earlier_sent_failure_does_not_extend_open_time() -> None:
    health = make_tracker(FaultKind.ORDER_FAILED, 5)
    for _ in range(20):
        health.record(RUNS_HIGH, make_failure(FaultKind.ORDER_FAILED, seconds=40), START + 31)
    assert health.acquire_permit(RUNS_HIGH, START + 31)


def test_failures_while_open_do_not_extend_open_time() -> None:
    health = make_tracker(FaultKind.INVALID_KEY, 20)
    assert is_healthy(health, RUNS_HIGH, START + 60)


@pytest.mark.parametrize("kind", SCOPELESS_FAULTS)
def test_inconclusive_probe_allows_next_probe(kind: FaultKind) -> None:
    health = make_tracker(FaultKind.INVALID_KEY)
    assert health.acquire_permit(RUNS_HIGH, START + 60)
    health.record(RUNS_HIGH, make_failure(kind, seconds=3), START + 63)
    assert health.acquire_permit(RUNS_HIGH, START + 63)
    assert not health.acquire_permit(RUNS_HIGH, START + 63)


def test_earlier_sent_order_does_not_free_the_probe() -> None:
    health = make_tracker(FaultKind.INVALID_KEY)
    assert health.acquire_permit(RUNS_HIGH, START + 60)
    health.record(RUN_HIGH, make_failure(FaultKind.CONTENT_REFUSED, seconds=30), START + 65)
    assert not health.acquire_permit(RUNS_HIGH, START + 65)


def test_failure_with_unknown_send_time_does_not_close_breaker() -> None:
    health = make_tracker(FaultKind.NO_CREDIT)
    health.record(RUN_HIGH, make_failure(FaultKind.ORDER_FAILED), START + 5)
    assert not is_healthy(health, RUN_HIGH, START + 5)


def test_cell_probe_that_fails_for_account_leaves_cell_half_open() -> None:
    health = make_tracker(FaultKind.ORDER_FAILED, 5)
    assert health.acquire_permit(RUNS_HIGH, START + 30)
    health.record(RUNS_HIGH, make_failure(FaultKind.NOT_SENT), START + 31)
    assert health.acquire_permit(RUNS_HIGH, START + 31)


def test_released_probe_permit_allows_next_probe() -> None:
    health = make_tracker(FaultKind.ORDER_FAILED, 5)
    permit = health.acquire_permit(RUNS_HIGH, START + 30)
    assert permit
    health.release_permit(permit)
    assert health.acquire_permit(RUNS_HIGH, START + 30)
    assert not health.acquire_permit(RUNS_HIGH, START + 30)


@pytest.mark.parametrize("kind", [FaultKind.ORDER_FAILED, FaultKind.NOT_SENT], ids=["cell", "account"])
def test_only_the_probing_permit_frees_the_probe(kind: FaultKind) -> None:
    """A permit given while the seller was healthy, and released later, is not the probe's."""
    health = HealthTracker()
    before = health.acquire_permit(RUNS_HIGH, START)
    for _ in range(5):
        health.record(RUNS_HIGH, make_failure(kind), START)
    permit = health.acquire_permit(RUNS_HIGH, START + 30)
    assert before
    assert permit
    health.release_permit(before)
    assert not health.acquire_permit(RUNS_HIGH, START + 31)
    health.release_permit(permit)
    assert health.acquire_permit(RUNS_HIGH, START + 31)


def test_late_release_of_old_permit_does_not_end_newer_probe() -> None:
    health = make_tracker(FaultKind.ORDER_FAILED, 5)
    first = health.acquire_permit(RUNS_HIGH, START + 30)
    second = health.acquire_permit(RUNS_HIGH, START + 30 + HealthTiming().probe_timeout_seconds)
    assert first
    assert second
    health.release_permit(first)
    health.release_permit(first)
    assert not health.acquire_permit(RUNS_HIGH, START + 31 + HealthTiming().probe_timeout_seconds)


def test_probe_without_outcome_times_out() -> None:
    health = make_tracker(FaultKind.INVALID_KEY)
    assert health.acquire_permit(RUNS_HIGH, START + 60)
    assert not health.acquire_permit(RUNS_HIGH, START + 59 + HealthTiming().probe_timeout_seconds)
    assert health.acquire_permit(RUNS_HIGH, START + 60 + HealthTiming().probe_timeout_seconds)


def test_account_probe_that_fails_for_cell_leaves_account_half_open() -> None:
    health = make_tracker(FaultKind.INVALID_KEY)
    assert health.acquire_permit(RUNS_HIGH, START + 60)
    health.record(RUNS_HIGH, make_failure(FaultKind.SERVER_ERROR, seconds=1), START + 61)
    assert health.acquire_permit(RUN_HIGH, START + 61)
    health.record(RUN_HIGH, make_failure(FaultKind.ORDER_FAILED, seconds=1), START + 62)
    assert all(health.acquire_permit(RUN_HIGH, START + 62) for _ in range(3)), (
        "a seller that accepts an order accepts the key"
    )


def test_cell_is_not_probed_while_account_is_open() -> None:
    health = make_tracker(FaultKind.ORDER_FAILED, 5)
    health.record(RUNS_HIGH, make_failure(FaultKind.INVALID_KEY), START)
    assert not health.acquire_permit(RUNS_HIGH, START + 40)
    assert health.acquire_permit(RUNS_HIGH, START + 60)


def test_closed_cell_starts_afresh() -> None:
    health = make_tracker_with_failures(2, 11, 1.0)
    assert health.acquire_permit(RUNS_HIGH, START + 50)
    health.record(RUNS_HIGH, make_success(1), START + 51)
    health.record(RUNS_HIGH, make_failure(FaultKind.ORDER_FAILED), START + 52)
    assert is_healthy(health, RUNS_HIGH, START + 52)
