"""Replicas share what each observed itself: until when breakers are open, successes, and statistics."""

import pytest

from gateway.health.health_tracker import HealthTracker
from gateway.routing.signals import UNKNOWN_SIGNALS, CellSignals
from providers.faults import FaultKind
from tests.unit.health.health_samples import (
    OTHER_ACCOUNT,
    RUN_HIGH,
    RUNS_HIGH,
    RUNS_LOW,
    START,
    get_signals,
    is_healthy,
    make_failure,
    make_success,
    make_tracker,
    send_snapshot,
)

DELAYS_AND_SKEWS = [(0.0, 0.0), (1.0, 0.0), (0.5, 4.0), (0.5, -4.0), (0.5, -30.0)]


@pytest.mark.parametrize(("delay", "skew"), DELAYS_AND_SKEWS)
@pytest.mark.parametrize(
    ("kind", "times", "open_seconds"), [(FaultKind.INVALID_KEY, 1, 60), (FaultKind.ORDER_FAILED, 5, 30)]
)
def test_open_breaker_applies_to_all_replicas_despite_clock_skew(
    kind: FaultKind, times: int, open_seconds: float, delay: float, skew: float
) -> None:
    """`skew`: how far the receiver's clock is ahead. Then the breaker opens there for less time by as much."""
    receiver, due = HealthTracker("a"), START + skew + open_seconds
    snapshot = make_tracker(kind, times).make_snapshot(START + 1)
    receiver.merge_snapshots({"b": snapshot}, START + 1 + delay + skew)
    assert not is_healthy(receiver, RUNS_HIGH, due - max(0.0, skew) - 0.01)
    assert receiver.acquire_permit(RUNS_HIGH, due + delay)
    assert not receiver.acquire_permit(RUNS_HIGH, due + delay), "each replica sends one probe"


def test_old_snapshot_counts_from_when_it_was_made() -> None:
    receiver = HealthTracker("a")
    receiver.merge_snapshots({"b": make_tracker(FaultKind.INVALID_KEY).make_snapshot(START)}, START + 45)
    assert not is_healthy(receiver, RUNS_HIGH, START + 59)
    assert is_healthy(receiver, RUNS_HIGH, START + 60)


def test_snapshot_older_than_a_minute_is_ignored() -> None:
    receiver = HealthTracker("a")
    sender = make_tracker(FaultKind.INVALID_KEY)
    sender.acquire_permit(RUNS_HIGH, START + 60)
    sender.record(RUNS_HIGH, make_failure(FaultKind.INVALID_KEY), START + 60)
    receiver.merge_snapshots({"b": sender.make_snapshot(START + 60)}, START + 121)
    assert is_healthy(receiver, RUNS_HIGH, START + 121)


def test_repeated_snapshot_changes_nothing() -> None:
    receiver, data = HealthTracker("a"), make_tracker(FaultKind.INVALID_KEY).make_snapshot(START)
    receiver.merge_snapshots({"b": data}, START)
    for second in range(1, 60):
        receiver.merge_snapshots({"b": data}, START + second)
    assert receiver.acquire_permit(RUNS_HIGH, START + 60)


def test_own_snapshot_is_ignored() -> None:
    health = HealthTracker("a")
    for _ in range(4):
        health.record(RUNS_HIGH, make_success(10), START)
    send_snapshot(health, health, name="a")
    assert get_signals(health, RUNS_HIGH) == UNKNOWN_SIGNALS


def test_later_local_success_outweighs_remote_trip() -> None:
    sender, receiver = make_tracker(FaultKind.INVALID_KEY), HealthTracker("a")
    send_snapshot(sender, receiver)
    receiver.record(RUNS_HIGH, make_success(2), START + 10)
    assert is_healthy(receiver, RUN_HIGH, START + 10)
    send_snapshot(sender, receiver, 12)
    assert is_healthy(receiver, RUN_HIGH, START + 12)


def test_earlier_local_success_does_not_outweigh_remote_trip() -> None:
    sender, receiver = HealthTracker(), HealthTracker("a")
    receiver.record(RUNS_HIGH, make_success(2), START)
    sender.record(RUNS_HIGH, make_failure(FaultKind.NO_CREDIT), START + 5)
    send_snapshot(sender, receiver, 6)
    assert not is_healthy(receiver, RUN_HIGH, START + 6)


@pytest.mark.parametrize(("kind", "times"), [(FaultKind.NO_CREDIT, 1), (FaultKind.ORDER_FAILED, 5)])
def test_remote_success_closes_breaker_tripped_before(kind: FaultKind, times: int) -> None:
    unhealthy, healthy = make_tracker(kind, times), HealthTracker("b")
    healthy.record(RUNS_HIGH, make_success(2), START + 70)
    send_snapshot(healthy, unhealthy, 71)
    assert all(unhealthy.acquire_permit(RUNS_HIGH, START + 71) for _ in range(3))


def test_remote_success_sent_before_trip_closes_nothing() -> None:
    unhealthy, healthy = make_tracker(FaultKind.NO_CREDIT), HealthTracker("b")
    healthy.record(RUNS_HIGH, make_success(20), START + 15)
    send_snapshot(healthy, unhealthy, 16)
    assert not is_healthy(unhealthy, RUNS_HIGH, START + 16)


def test_late_snapshot_does_not_postdate_success() -> None:
    unhealthy, healthy = make_tracker(FaultKind.NO_CREDIT), HealthTracker("b")
    healthy.record(RUNS_HIGH, make_success(2), START + 1.5)
    unhealthy.merge_snapshots({"b": healthy.make_snapshot(START + 2)}, START + 3.5)
    assert not is_healthy(unhealthy, RUNS_HIGH, START + 3.5)


def test_account_closed_by_remote_success_starts_afresh() -> None:
    unhealthy, healthy = make_tracker(FaultKind.NOT_SENT, 5), HealthTracker("b")
    healthy.record(RUNS_HIGH, make_success(2), START + 20)
    send_snapshot(healthy, unhealthy, 21)
    unhealthy.record(RUNS_HIGH, make_failure(FaultKind.NOT_SENT), START + 22)
    assert is_healthy(unhealthy, RUNS_HIGH, START + 22)


def test_outdated_third_replica_keeps_nothing_open() -> None:
    first, second, third = make_tracker(FaultKind.INVALID_KEY), HealthTracker(), HealthTracker("a")
    send_snapshot(first, third, name="first")
    second.record(RUNS_HIGH, make_success(2), START + 62)
    send_snapshot(second, third, 63, name="second")
    assert is_healthy(third, RUNS_HIGH, START + 63)
    send_snapshot(first, third, 64, name="first")
    assert all(third.acquire_permit(RUNS_HIGH, START + 64) for _ in range(3))


def test_remote_state_is_not_forwarded() -> None:
    first, second, third = make_tracker(FaultKind.INVALID_KEY), HealthTracker("b"), HealthTracker("c")
    send_snapshot(first, second)
    send_snapshot(second, third, 1)
    assert not is_healthy(second, RUNS_HIGH, START + 1)
    assert is_healthy(third, RUNS_HIGH, START + 1)


def test_failed_local_probe_is_shared() -> None:
    first, second, third = make_tracker(FaultKind.INVALID_KEY), HealthTracker("b"), HealthTracker("c")
    send_snapshot(first, second)
    assert second.acquire_permit(RUNS_HIGH, START + 60)
    second.record(RUNS_HIGH, make_failure(FaultKind.INVALID_KEY), START + 61)
    send_snapshot(second, third, 62)
    assert not is_healthy(third, RUNS_HIGH, START + 61 + 119)


def test_locally_extended_backoff_is_shared() -> None:
    first, second, third = make_tracker(FaultKind.RATE_LIMITED, retry_after=5), HealthTracker("b"), HealthTracker("c")
    send_snapshot(first, second)
    second.record(RUN_HIGH, make_failure(FaultKind.RATE_LIMITED, retry_after=60), START + 1)
    send_snapshot(second, third, 2)
    assert not is_healthy(third, RUNS_HIGH, START + 60)


def test_late_exchanges_do_not_keep_breakers_open() -> None:
    first, second_replica = make_tracker(FaultKind.INVALID_KEY), make_tracker(FaultKind.INVALID_KEY)
    for second in range(1, 60, 2):
        from_one, from_other = (each.make_snapshot(START + second) for each in (first, second_replica))
        first.merge_snapshots({"other": from_other}, START + second + 4)
        second_replica.merge_snapshots({"one": from_one}, START + second + 4)
    assert first.acquire_permit(RUNS_HIGH, START + 60)
    assert second_replica.acquire_permit(RUNS_HIGH, START + 60)


def test_half_open_state_keeps_being_shared() -> None:
    first, second_replica = make_tracker(FaultKind.INVALID_KEY), make_tracker(FaultKind.INVALID_KEY)
    for second in range(61, 70):
        send_snapshot(first, second_replica, second, "one")
        send_snapshot(second_replica, first, second, "other")
    for sender in (first, second_replica):
        newcomer = HealthTracker("new")
        send_snapshot(sender, newcomer, 70)
        assert newcomer.acquire_permit(RUNS_HIGH, START + 70)
        assert not newcomer.acquire_permit(RUNS_HIGH, START + 70)


def test_statistics_are_weighted_by_sample_count() -> None:
    few, many, receiver = HealthTracker(), HealthTracker(), HealthTracker("a")
    for _ in range(2):
        few.record(RUNS_HIGH, make_success(10, is_as_ordered=False), START)
    for _ in range(6):
        many.record(RUNS_HIGH, make_success(30, is_as_ordered=True), START)
    send_snapshot(few, receiver, name="few")
    assert get_signals(receiver, RUNS_HIGH) == UNKNOWN_SIGNALS
    receiver.merge_snapshots({"few": few.make_snapshot(START), "many": many.make_snapshot(START)}, START)
    assert get_signals(receiver, RUNS_HIGH) == CellSignals(p50=25, p90=30, conformance=0.75, deliveries=8)
    for _ in range(8):
        receiver.record(RUNS_HIGH, make_success(45, is_as_ordered=True), START)
    assert get_signals(receiver, RUNS_HIGH) == CellSignals(p50=35, p90=45, conformance=14 / 16, deliveries=16)
    assert get_signals(receiver, RUNS_LOW) == UNKNOWN_SIGNALS


def test_newer_snapshot_replaces_older_one() -> None:
    sender, receiver = HealthTracker(), HealthTracker("a")
    for seconds in range(5):
        sender.record(RUNS_HIGH, make_success(10), START)
        send_snapshot(sender, receiver, seconds)
    assert get_signals(receiver, RUNS_HIGH, START + 5).p50 == 10
    assert receiver.get_signals(RUNS_HIGH, START + 5) == CellSignals(p50=10, p90=10)


def test_statistics_of_silent_replica_are_forgotten() -> None:
    sender, receiver = make_tracker(FaultKind.INVALID_KEY), HealthTracker("a")
    for pause in (60, 180):
        assert sender.acquire_permit(RUNS_HIGH, START + pause)
        sender.record(RUNS_HIGH, make_failure(FaultKind.INVALID_KEY), START + pause)
    for _ in range(5):
        sender.record(OTHER_ACCOUNT, make_success(10), START + 180)
    send_snapshot(sender, receiver, 181)
    assert not is_healthy(receiver, RUNS_HIGH, START + 230)
    assert get_signals(receiver, OTHER_ACCOUNT, START + 230).p50 == 10
    receiver.merge_snapshots({}, START + 242)
    assert get_signals(receiver, OTHER_ACCOUNT, START + 242) == UNKNOWN_SIGNALS
    assert not receiver.acquire_permit(RUNS_HIGH, START + 419), "the breaker stays open for its time"
    assert receiver.acquire_permit(RUNS_HIGH, START + 420)
    assert not receiver.acquire_permit(RUNS_HIGH, START + 420)


def test_returning_replica_is_merged_again() -> None:
    sender, receiver = make_tracker(FaultKind.INVALID_KEY), HealthTracker("a")
    send_snapshot(HealthTracker(), receiver, -100)
    send_snapshot(sender, receiver)
    assert not is_healthy(receiver, RUNS_HIGH, START)


def test_snapshot_is_small() -> None:
    health = HealthTracker()
    for key in (RUNS_HIGH, RUNS_LOW, RUN_HIGH, OTHER_ACCOUNT):
        for number in range(10_000):
            health.record(key, make_success(1 + number % 500, is_as_ordered=True), START + number / 20)
    assert len(health.make_snapshot(START + 500)) < 700
