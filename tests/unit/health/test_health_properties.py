"""Random events in random order: nothing raises, memory is bounded, and a success closes every breaker."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from gateway.health import health_tracker as health_module
from gateway.health.circuit_breaker import MAX_OPEN_SECONDS
from gateway.health.health_snapshot import HealthSnapshot
from gateway.health.health_tracker import HealthKey, HealthTracker, OrderOutcome, OrderPermit
from providers.faults import FaultKind
from tests.unit.health.health_samples import (
    ALL_KEYS,
    CATALOGUE,
    HIGH_CELL,
    RUNS_HIGH,
    START,
    make_success,
)
from tests.unit.health.load_functions import get_zero_load

SECONDS = st.one_of(st.none(), st.floats(0, 1_000), st.floats())
OUTCOMES = st.builds(
    OrderOutcome,
    fault=st.one_of(st.none(), st.sampled_from(FaultKind)),
    elapsed_seconds=SECONDS,
    is_as_ordered=st.sampled_from([None, True, False]),
    retry_after=SECONDS,
)
HEALTH_KEYS = st.one_of(
    st.sampled_from(ALL_KEYS), st.builds(HealthKey, st.text(), st.text(), st.text(), st.just(HIGH_CELL))
)
# Mostly forwards. A clock that jumps back breaks its contract, but must break nothing else.
TIME_STEPS = st.one_of(st.floats(0, 5), st.floats(0, 400), st.floats(-100, 2_000))
OPERATIONS = st.sampled_from(["record", "record", "record", "acquire", "release", "accept", "exchange", "read"])
EVENTS = st.lists(st.tuples(OPERATIONS, TIME_STEPS, HEALTH_KEYS, OUTCOMES), max_size=50)

property_settings = settings(max_examples=100, suppress_health_check=list(HealthCheck))


class ReplicaPair:
    """Two replicas that exchange snapshots."""

    def __init__(self) -> None:
        self.first, self.second = HealthTracker("one"), HealthTracker("other")
        self.now = START
        self.permits: list[tuple[HealthTracker, OrderPermit | None]] = []

    def run_events(self, events: list[tuple[str, float, HealthKey, OrderOutcome]]) -> None:
        for number, (operation, step, key, outcome) in enumerate(events):
            self.now += step
            self._run_operation(operation, (self.first, self.second)[number % 3 == 0], key, outcome)

    def _run_operation(self, operation: str, health: HealthTracker, key: HealthKey, outcome: OrderOutcome) -> None:
        match operation:
            case "record":
                health.record(key, outcome, self.now)
            case "acquire":
                self.permits.append((health, health.acquire_permit(key, self.now)))
            case "release":
                self._release_oldest_permit()
            case "accept":
                health.record_accepted(key.account, 1.0, self.now)
            case "read":
                assert len(dict(health.get_catalogue_signals(CATALOGUE, self.now, get_zero_load))) <= 3 * 18
            case "exchange":
                self.exchange_snapshots()

    def _release_oldest_permit(self) -> None:
        for health, permit in self.permits[:1]:
            if permit:
                health.release_permit(permit)
        self.permits = self.permits[1:]

    def exchange_snapshots(self) -> None:
        first_snapshot, second_snapshot = self.first.make_snapshot(self.now), self.second.make_snapshot(self.now)
        for snapshot in (first_snapshot, second_snapshot):
            assert msgpack.decode(snapshot, type=HealthSnapshot).wall_time == self.now
        self.first.merge_snapshots({"other": second_snapshot}, self.now)
        self.second.merge_snapshots({"one": first_snapshot}, self.now)


@property_settings
@given(EVENTS)
def test_latest_success_closes_breakers_here_and_after_one_exchange_elsewhere(
    events: list[tuple[str, float, HealthKey, OrderOutcome]],
) -> None:
    pair = ReplicaPair()
    pair.run_events(events)
    # Longer than the widest jump back of the clock.
    pair.now += 10_000
    pair.first.record(RUNS_HIGH, make_success(0.0), pair.now)
    assert all(pair.first.acquire_permit(RUNS_HIGH, pair.now) for _ in range(3))
    pair.now += 1
    pair.exchange_snapshots()
    assert all(health.acquire_permit(RUNS_HIGH, pair.now) for health in (pair.first, pair.second) for _ in range(3))


@property_settings
@given(EVENTS)
def test_every_open_breaker_becomes_half_open_in_time(events: list[tuple[str, float, HealthKey, OrderOutcome]]) -> None:
    pair = ReplicaPair()
    pair.run_events(events)
    latest = START + sum(max(0.0, step) for _, step, _, _ in events)
    for health in (pair.first, pair.second):
        for key in ALL_KEYS:
            permit = health.acquire_permit(key, latest + 2_000)
            assert permit
            health.release_permit(permit)


@property_settings
@given(EVENTS)
def test_only_one_probe_runs_at_a_time(events: list[tuple[str, float, HealthKey, OrderOutcome]]) -> None:
    pair = ReplicaPair()
    pair.run_events(events)
    was_healthy = pair.first.get_signals(RUNS_HIGH, pair.now).healthy
    assert bool(pair.first.acquire_permit(RUNS_HIGH, pair.now)) is was_healthy
    is_healthy = pair.first.get_signals(RUNS_HIGH, pair.now).healthy
    assert bool(pair.first.acquire_permit(RUNS_HIGH, pair.now)) is is_healthy


def count_objects(value: object) -> int:
    """Counts the objects that `value` contains."""
    if isinstance(value, dict):
        return sum(1 + count_objects(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return sum(1 + count_objects(inner) for inner in value)
    return count_objects(vars(value)) if hasattr(value, "__dict__") else 1


def test_memory_is_bounded_for_any_number_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "MAX_CELLS", 20)
    monkeypatch.setattr(health_module, "MAX_ACCOUNTS", 5)
    health, sizes = HealthTracker(), []
    for number in range(30_000):
        key = HealthKey(f"seller-{number % 50}", f"account-{number % 30}", "model", HIGH_CELL)
        seconds = 0.1 + number % 977 * 3.1
        kind = (None, None, None, FaultKind.ORDER_FAILED, FaultKind.NOT_SENT)[number % 5]
        health.record(
            key, OrderOutcome(fault=kind, elapsed_seconds=seconds, is_as_ordered=bool(number % 2)), number / 3
        )
        if number in (15_000, 29_999):
            sizes.append(count_objects(health))
    assert sizes[1] <= sizes[0] * 1.2
    assert sizes[1] < 20 * 2_000


@property_settings
@given(
    st.one_of(
        st.binary(),
        st.recursive(
            st.one_of(st.none(), st.floats(), st.integers(0, 9), st.text()),
            lambda values: st.lists(values) | st.dictionaries(st.text(), values),
        ).map(lambda value: msgpack.encode([4, START, value, value])),
    )
)
def test_merging_arbitrary_bytes_again_changes_nothing(data: bytes) -> None:
    health = HealthTracker()
    health.merge_snapshots({"b": data}, START)
    before = health.make_snapshot(START), health.get_signals(RUNS_HIGH, START)
    health.merge_snapshots({"b": data}, START)
    assert (health.make_snapshot(START), health.get_signals(RUNS_HIGH, START)) == before


@property_settings
@given(EVENTS, st.data())
def test_damaged_snapshot_is_harmless(
    events: list[tuple[str, float, HealthKey, OrderOutcome]], data: st.DataObject
) -> None:
    pair = ReplicaPair()
    pair.run_events(events)
    snapshot = bytearray(pair.first.make_snapshot(pair.now))
    position = data.draw(st.integers(0, len(snapshot) - 1))
    snapshot[position] = data.draw(st.integers(0, 255))
    for altered in (bytes(snapshot), bytes(snapshot[:position])):
        receiver = HealthTracker()
        receiver.merge_snapshots({"b": altered}, pair.now)
        receiver.merge_snapshots({"b": altered}, pair.now + 1)
        dict(receiver.get_catalogue_signals(CATALOGUE, pair.now, get_zero_load))
        receiver.make_snapshot(pair.now)
        assert receiver.acquire_permit(RUNS_HIGH, pair.now + MAX_OPEN_SECONDS)


@property_settings
@given(EVENTS)
def test_merging_snapshot_twice_equals_merging_once(events: list[tuple[str, float, HealthKey, OrderOutcome]]) -> None:
    pair = ReplicaPair()
    pair.run_events(events)
    snapshot, once, twice = pair.first.make_snapshot(pair.now), HealthTracker(), HealthTracker()
    for health in (once, twice, twice):
        health.merge_snapshots({"b": snapshot}, pair.now)
    for moment in (pair.now, pair.now + 30, pair.now + 1_000):
        assert [once.get_signals(key, moment) for key in ALL_KEYS] == [
            twice.get_signals(key, moment) for key in ALL_KEYS
        ]
    assert once.make_snapshot(pair.now) == twice.make_snapshot(pair.now)
