"""Replicas pass on refusals of accounts, and the checks that end them, so that neither is lost with its observer."""

from collections.abc import Iterable
from random import Random

import pytest

from gateway.health.account_check import AccountCheck, CheckOutcome
from gateway.health.circuit_breaker import Refusal
from gateway.health.health_tracker import HealthTracker
from gateway.timeouts_and_intervals import HealthTiming
from providers.faults import FaultKind
from tests.unit.health.health_samples import RUNS_HIGH, START, make_account, make_failure

ACCOUNT = RUNS_HIGH.account
BALANCE = 20_000_000
TTL_SECONDS = HealthTiming().replica_ttl_seconds


class SnapshotExchange:
    """Replicas that publish a snapshot every second and read those of all, which the store keeps for a minute. The
    clock of the replica at position i is `leads[i]` seconds ahead."""

    def __init__(self, count: int = 3, leads: tuple[float, ...] = ()) -> None:
        self.now = START
        self._snapshots: dict[str, tuple[float, bytes]] = {}
        self._leads = leads or (0.0,) * count
        self._names: dict[HealthTracker, str] = {}
        self.trackers = [self._start() for _ in range(count)]
        self.exchange()

    def get_time(self, position: int) -> float:
        return self.now + self._leads[position]

    def restart(self, position: int) -> None:
        """Replaces a replica by a new one, which has another name. The store still has the last snapshot."""
        self.trackers[position] = self._start()

    def exchange(self, seconds: int = 1, silent: Iterable[int] = ()) -> None:
        """Silent replicas neither publish nor read."""
        active = [position for position in range(len(self.trackers)) if position not in set(silent)]
        for _ in range(seconds):
            self.now += 1
            for position in active:
                tracker = self.trackers[position]
                self._snapshots[self._names[tracker]] = (self.now, tracker.make_snapshot(self.get_time(position)))
            kept = {name: data for name, (at, data) in self._snapshots.items() if self.now - at <= TTL_SECONDS}
            for position in active:
                self.trackers[position].merge_snapshots(kept, self.get_time(position))

    def refuse(self, position: int) -> None:
        now = self.get_time(position)
        self.trackers[position].record(RUNS_HIGH, make_failure(FaultKind.NO_CREDIT, seconds=0.1), now)

    def check(self, position: int) -> None:
        now = self.get_time(position)
        self.trackers[position].record_check(ACCOUNT, AccountCheck(now, CheckOutcome.VALID, BALANCE), now)

    def list_refusals(self) -> list[Refusal]:
        return [
            tracker.get_account_refusal(ACCOUNT, self.get_time(position))
            for position, tracker in enumerate(self.trackers)
        ]

    def _start(self) -> HealthTracker:
        name = f"replica {len(self._names)}"
        tracker = HealthTracker(name)
        tracker.configure({ACCOUNT: make_account(ACCOUNT)}, self.now)
        self._names[tracker] = name
        return tracker


def make_refused_replicas(count: int = 3) -> SnapshotExchange:
    replicas = SnapshotExchange(count)
    replicas.check(0)
    replicas.exchange(5)
    replicas.refuse(0)
    replicas.exchange(2)
    assert replicas.list_refusals() == [Refusal.NO_CREDIT] * count
    return replicas


def test_refusal_survives_a_restart_of_its_observer_and_of_all_others_one_by_one() -> None:
    replicas = make_refused_replicas()
    for position in (0, 1, 2):
        replicas.restart(position)
        replicas.exchange(int(TTL_SECONDS) + 10)
        assert replicas.list_refusals() == [Refusal.NO_CREDIT] * 3
        assert replicas.trackers[position].acquire_permit(RUNS_HIGH, replicas.now) is None


def test_check_ends_a_refusal_on_all_replicas_for_good() -> None:
    replicas = make_refused_replicas()
    replicas.restart(0)
    replicas.exchange(70)
    replicas.check(2)
    replicas.exchange(2)
    for position in (2, 1, 0):
        replicas.restart(position)
        for _ in range(70):
            replicas.exchange()
            assert replicas.list_refusals() == [Refusal.NONE] * 3


def test_replica_that_was_frozen_revives_no_refusal() -> None:
    """Also if the replica that made the check has stopped, and no other has been refused."""
    replicas = make_refused_replicas()
    replicas.check(1)
    replicas.exchange(2, silent=[2])
    replicas.restart(1)
    replicas.exchange(70, silent=[2])
    replicas.restart(0)
    replicas.exchange(70, silent=[2])
    assert replicas.list_refusals()[2] is Refusal.NO_CREDIT
    replicas.exchange()
    replicas.exchange()
    assert replicas.list_refusals() == [Refusal.NONE] * 3


def test_refusal_after_a_check_is_not_ended_by_it() -> None:
    replicas = make_refused_replicas()
    replicas.check(1)
    replicas.exchange(5)
    replicas.trackers[2].record_accepted(ACCOUNT, 0.0, replicas.now)
    replicas.refuse(2)
    replicas.restart(0)
    replicas.exchange(90)
    assert replicas.list_refusals() == [Refusal.NO_CREDIT] * 3
    assert replicas.trackers[0].acquire_permit(RUNS_HIGH, replicas.now) is None


@pytest.mark.parametrize("seed", range(30))
def test_after_any_restarts_and_pauses_the_latest_check_decides(seed: int) -> None:
    """The clocks of the replicas differ, and a check that passes is sent long after the last refusal."""
    source = Random(seed)  # noqa: S311
    replicas = SnapshotExchange(leads=tuple([source.choice([0.0, 0.0, 7.0]) for _ in range(3)]))
    replicas.check(0)
    replicas.exchange(2)
    for _ in range(20):
        action = source.choice([replicas.restart, replicas.refuse, replicas.check])
        action(source.randrange(3))
        silent = [source.randrange(3)] if source.random() < 0.3 else []
        replicas.exchange(source.choice([1, 5, 70]), silent)
    replicas.refuse(source.randrange(3))
    replicas.exchange(30)
    replicas.check(checker := source.randrange(3))
    replicas.exchange(2)
    assert replicas.list_refusals() == [Refusal.NONE] * 3
    replicas.restart(checker)
    for _ in range(100):
        replicas.exchange()
        assert replicas.list_refusals() == [Refusal.NONE] * 3
