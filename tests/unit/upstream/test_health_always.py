"""Whatever happens, in whatever order: nothing raises, nothing grows for ever, and a success ends every closure."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import msgpack

from gateway.upstream import health as health_module
from gateway.upstream.health import Health, Outcome, Trial, Where
from gateway.upstream.telling import Snapshot
from providers.faults import FaultKind
from tests.unit.upstream.patients import CATALOGUE, EVERYWHERE, HIGH, RUNS, START, WALL, success
from tests.unit.upstream.test_signals import idle

SECONDS = st.one_of(st.none(), st.floats(0, 1_000), st.floats())
OUTCOMES = st.builds(
    Outcome,
    fault=st.one_of(st.none(), st.sampled_from(FaultKind)),
    seconds=SECONDS,
    as_ordered=st.sampled_from([None, True, False]),
    retry_after=SECONDS,
)
PLACES = st.one_of(st.sampled_from(EVERYWHERE), st.builds(Where, st.text(), st.text(), st.text(), st.just(HIGH)))
# Mostly forwards; a clock that jumps back is a broken promise, and must break nothing else.
STEPS = st.one_of(st.floats(0, 5), st.floats(0, 400), st.floats(-100, 2_000))
DEEDS = st.sampled_from(["record", "record", "record", "try", "withdraw", "accepted", "tell", "renewed", "look"])
EVENTS = st.lists(st.tuples(DEEDS, STEPS, PLACES, OUTCOMES), max_size=50)

often = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


class Pair:
    """Two replicas that tell each other what they see."""

    def __init__(self) -> None:
        self.one, self.other = Health("one"), Health("other")
        self.now = START
        self.trials: list[tuple[Health, Trial | None]] = []

    def live(self, events: list[tuple[str, float, Where, Outcome]]) -> None:
        for number, (deed, step, where, outcome) in enumerate(events):
            self.now += step
            self._do(deed, (self.one, self.other)[number % 3 == 0], where, outcome)

    def _do(self, deed: str, health: Health, where: Where, outcome: Outcome) -> None:
        match deed:
            case "record":
                health.record(where, outcome, self.now)
            case "try":
                self.trials.append((health, health.may_try(where, self.now)))
            case "withdraw":
                self._withdraw()
            case "accepted":
                health.accepted(where.account, 1.0, self.now)
            case "renewed":
                health.renewed(where.account, self.now)
            case "look":
                assert len(dict(health.signals(CATALOGUE, self.now, idle))) <= 3 * 18
            case "tell":
                self.tell()

    def _withdraw(self) -> None:
        for health, trial in self.trials[:1]:
            if trial:
                health.withdraw(trial)
        self.trials = self.trials[1:]

    def tell(self) -> None:
        wall = WALL + self.now
        first, second = self.one.snapshot(self.now, wall), self.other.snapshot(self.now, wall)
        for snapshot in (first, second):
            assert msgpack.decode(snapshot, type=Snapshot).at == wall
        self.one.merge("other", second, self.now, wall)
        self.other.merge("one", first, self.now, wall)


@often
@given(EVENTS)
def test_a_success_that_was_sent_after_everything_else_opens_here_and_within_one_exchange_elsewhere(
    events: list[tuple[str, float, Where, Outcome]],
) -> None:
    pair = Pair()
    pair.live(events)
    # Longer than the widest jump back of the clock.
    pair.now += 10_000
    pair.one.record(RUNS, success(0.0), pair.now)
    assert all(pair.one.may_try(RUNS, pair.now) for _ in range(3))
    pair.now += 1
    pair.tell()
    assert all(health.may_try(RUNS, pair.now) for health in (pair.one, pair.other) for _ in range(3))


@often
@given(EVENTS)
def test_whatever_is_shut_is_due_for_a_trial_in_time(events: list[tuple[str, float, Where, Outcome]]) -> None:
    pair = Pair()
    pair.live(events)
    latest = START + sum(max(0.0, step) for _, step, _, _ in events)
    for health in (pair.one, pair.other):
        for where in EVERYWHERE:
            trial = health.may_try(where, latest + 2_000)
            assert trial
            health.withdraw(trial)


@often
@given(EVENTS)
def test_one_trial_goes_at_a_time(events: list[tuple[str, float, Where, Outcome]]) -> None:
    pair = Pair()
    pair.live(events)
    was_healthy = pair.one.known(RUNS, pair.now).healthy
    assert bool(pair.one.may_try(RUNS, pair.now)) is was_healthy
    is_healthy = pair.one.known(RUNS, pair.now).healthy
    assert bool(pair.one.may_try(RUNS, pair.now)) is is_healthy


def size_of(value: object) -> int:
    """How many things there are within it."""
    if isinstance(value, dict):
        return sum(1 + size_of(inner) for inner in value.values())
    if isinstance(value, list | tuple):
        return sum(1 + size_of(inner) for inner in value)
    return size_of(vars(value)) if hasattr(value, "__dict__") else 1


def test_very_many_events_need_no_more_memory_than_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "MOST_CELLS", 20)
    monkeypatch.setattr(health_module, "MOST_ACCOUNTS", 5)
    health, sizes = Health(), []
    for number in range(30_000):
        where = Where(f"seller-{number % 50}", f"account-{number % 30}", "model", HIGH)
        seconds = 0.1 + number % 977 * 3.1
        kind = (None, None, None, FaultKind.FAILED, FaultKind.NOT_SENT)[number % 5]
        health.record(where, Outcome(fault=kind, seconds=seconds, as_ordered=bool(number % 2)), number / 3)
        if number in (15_000, 29_999):
            sizes.append(size_of(health))
    assert sizes[1] <= sizes[0] * 1.2
    assert sizes[1] < 20 * 2_000


@often
@given(
    st.one_of(
        st.binary(),
        st.recursive(st.one_of(st.none(), st.floats(), st.integers(0, 9), st.text()), st.lists).map(
            lambda value: msgpack.encode([1, WALL, value, value])
        ),
    )
)
def test_any_bytes_may_come_from_elsewhere(data: bytes) -> None:
    health = Health()
    first = health.merge("b", data, START, WALL)
    before = health.snapshot(START, WALL), health.known(RUNS, START)
    assert not (health.merge("b", data, START, WALL) and first)
    assert (health.snapshot(START, WALL), health.known(RUNS, START)) == before


@often
@given(EVENTS, st.data())
def test_a_torn_or_altered_snapshot_is_harmless(
    events: list[tuple[str, float, Where, Outcome]], data: st.DataObject
) -> None:
    pair = Pair()
    pair.live(events)
    told = bytearray(pair.one.snapshot(pair.now, WALL))
    place = data.draw(st.integers(0, len(told) - 1))
    told[place] = data.draw(st.integers(0, 255))
    for altered in (bytes(told), bytes(told[:place])):
        hearer = Health()
        hearer.merge("b", altered, START, WALL)
        hearer.merge("b", altered, START + 1, WALL + 1)
        dict(hearer.signals(CATALOGUE, START, idle))
        hearer.snapshot(START, WALL)


@often
@given(EVENTS)
def test_hearing_the_same_twice_is_hearing_it_once(events: list[tuple[str, float, Where, Outcome]]) -> None:
    pair = Pair()
    pair.live(events)
    told, once, twice = pair.one.snapshot(pair.now, WALL), Health(), Health()
    for health in (once, twice, twice):
        health.merge("b", told, START, WALL)
    for moment in (START, START + 30, START + 1_000):
        assert [once.known(where, moment) for where in EVERYWHERE] == [
            twice.known(where, moment) for where in EVERYWHERE
        ]
    assert once.snapshot(START, WALL) == twice.snapshot(START, WALL)
