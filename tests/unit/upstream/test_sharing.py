"""Replicas learn from each other: what each has seen itself, as soon as it is told, and no longer than it speaks."""

import pytest

from gateway.routing.signals import UNKNOWN, CellSignals
from gateway.upstream import health as health_module
from gateway.upstream.health import Health
from providers.faults import FaultKind
from tests.unit.upstream.patients import (
    ELSEWHERE,
    RUN,
    RUNS,
    RUNS_LOW,
    START,
    WALL,
    after,
    fault,
    is_healthy,
    seen,
    success,
)

FRESH = [(0.0, 0.0), (1.0, 0.0), (0.5, 4.0), (0.5, -4.0), (0.5, -30.0)]
# This process's monotonic clock has nothing to do with the other's.
APART = 50_000.0


def tell(teller: Health, hearer: Health, passed: float = 0.0, name: str = "teller") -> bool:
    """So many seconds after the START."""
    data = teller.snapshot(START + passed, WALL + passed)
    return hearer.merge(name, data, START + passed, WALL + passed)


@pytest.mark.parametrize(("delay", "skew"), FRESH)
@pytest.mark.parametrize(("kind", "times", "pause"), [(FaultKind.BAD_KEY, 1, 60), (FaultKind.FAILED, 5, 30)])
def test_what_one_has_shut_is_shut_for_all_whatever_their_clocks_say(
    kind: FaultKind, times: int, pause: float, delay: float, skew: float
) -> None:
    data, hearer, now = after(kind, times).snapshot(START + 1, WALL + 1), Health("a"), START + APART
    assert hearer.merge("b", data, now + 1 + delay, WALL + 1 + delay + skew)
    assert not is_healthy(hearer, RUNS, now + pause - 0.01)
    assert hearer.may_try(RUNS, now + pause + delay)
    assert not hearer.may_try(RUNS, now + pause + delay), "each replica sends one trial"


def test_what_was_told_a_while_ago_counts_from_then() -> None:
    hearer = Health("a")
    assert hearer.merge("b", after(FaultKind.BAD_KEY).snapshot(START, WALL), START + 45, WALL + 45)
    assert not is_healthy(hearer, RUNS, START + 59)
    assert is_healthy(hearer, RUNS, START + 66)


def test_news_of_more_than_a_minute_ago_is_none() -> None:
    hearer = Health("a")
    assert not hearer.merge("b", after(FaultKind.BAD_KEY).snapshot(START, WALL), START + 61, WALL + 61)
    assert is_healthy(hearer, RUNS, START + 61)


def test_the_same_news_again_change_nothing() -> None:
    hearer, data = Health("a"), after(FaultKind.BAD_KEY).snapshot(START, WALL)
    assert hearer.merge("b", data, START, WALL)
    for second in range(1, 60):
        assert not hearer.merge("b", data, START + second, WALL + second)
    assert hearer.may_try(RUNS, START + 60)


def test_nobody_listens_to_himself() -> None:
    health = Health("a")
    for _ in range(4):
        health.record(RUNS, success(10), START)
    assert not tell(health, health, name="a")
    assert seen(health, RUNS) == UNKNOWN


def test_a_success_here_outweighs_what_was_shut_elsewhere_before_it() -> None:
    teller, hearer = after(FaultKind.BAD_KEY), Health("a")
    tell(teller, hearer)
    hearer.record(RUNS, success(2), START + 10)
    assert is_healthy(hearer, RUN, START + 10)
    assert tell(teller, hearer, 12)
    assert is_healthy(hearer, RUN, START + 12)


def test_a_success_here_does_not_outweigh_what_is_shut_elsewhere_after_it() -> None:
    teller, hearer = Health(), Health("a")
    hearer.record(RUNS, success(2), START)
    teller.record(RUNS, fault(FaultKind.NO_CREDIT), START + 5)
    tell(teller, hearer, 6)
    assert not is_healthy(hearer, RUN, START + 6)


@pytest.mark.parametrize(("kind", "times"), [(FaultKind.NO_CREDIT, 1), (FaultKind.FAILED, 5)])
def test_a_success_elsewhere_opens_what_was_shut_here_before_it(kind: FaultKind, times: int) -> None:
    shut, well = after(kind, times), Health("b")
    well.record(RUNS, success(2), START + 70)
    tell(well, shut, 71)
    assert all(shut.may_try(RUNS, START + 71) for _ in range(3))


def test_a_success_elsewhere_that_was_sent_before_opens_nothing() -> None:
    shut, well = after(FaultKind.NO_CREDIT), Health("b")
    well.record(RUNS, success(20), START + 15)
    tell(well, shut, 16)
    assert not is_healthy(shut, RUNS, START + 16)


def test_a_success_elsewhere_that_is_told_late_does_not_look_later_than_it_was() -> None:
    shut, well = after(FaultKind.NO_CREDIT), Health("b")
    well.record(RUNS, success(2), START + 1.5)
    data = well.snapshot(START + 2, WALL + 2)
    assert shut.merge("b", data, START + 3.5, WALL + 3.5)
    assert not is_healthy(shut, RUNS, START + 3.5)


def test_an_account_that_was_opened_from_elsewhere_starts_afresh() -> None:
    shut, well = after(FaultKind.NOT_SENT, 5), Health("b")
    well.record(RUNS, success(2), START + 20)
    tell(well, shut, 21)
    shut.record(RUNS, fault(FaultKind.NOT_SENT), START + 22)
    assert is_healthy(shut, RUNS, START + 22)


def test_a_third_that_has_not_heard_of_the_success_yet_keeps_nothing_shut() -> None:
    first, second, third = after(FaultKind.BAD_KEY), Health(), Health("a")
    tell(first, third, name="first")
    second.record(RUNS, success(2), START + 62)
    tell(second, third, 63, name="second")
    assert is_healthy(third, RUNS, START + 63)
    tell(first, third, 64, name="first")
    assert all(third.may_try(RUNS, START + 64) for _ in range(3))


def test_what_was_only_heard_is_not_told_on() -> None:
    first, second, third = after(FaultKind.BAD_KEY), Health("b"), Health("c")
    tell(first, second)
    tell(second, third, 1)
    assert not is_healthy(second, RUNS, START + 1)
    assert is_healthy(third, RUNS, START + 1)


def test_a_trial_that_fails_here_is_ours_to_tell() -> None:
    first, second, third = after(FaultKind.BAD_KEY), Health("b"), Health("c")
    tell(first, second)
    assert second.may_try(RUNS, START + 60)
    second.record(RUNS, fault(FaultKind.BAD_KEY), START + 61)
    tell(second, third, 62)
    assert not is_healthy(third, RUNS, START + 61 + 119)


def test_a_wait_that_was_lengthened_here_is_ours_to_tell() -> None:
    first, second, third = after(FaultKind.RATE_LIMITED, retry_after=5), Health("b"), Health("c")
    tell(first, second)
    second.record(RUN, fault(FaultKind.RATE_LIMITED, retry_after=60), START + 1)
    tell(second, third, 2)
    assert not is_healthy(third, RUNS, START + 60)


def test_replicas_that_keep_telling_each_other_late_do_not_keep_each_other_shut() -> None:
    one, other = after(FaultKind.BAD_KEY), after(FaultKind.BAD_KEY)
    for second in range(1, 60, 2):
        from_one, from_other = (each.snapshot(START + second, WALL + second) for each in (one, other))
        now, wall = START + second + 4, WALL + second + 4
        one.merge("other", from_other, now, wall)
        other.merge("one", from_one, now, wall)
    assert one.may_try(RUNS, START + 66)
    assert other.may_try(RUNS, START + 66)


def test_all_that_are_due_for_a_trial_go_on_telling_so() -> None:
    one, other = after(FaultKind.BAD_KEY), after(FaultKind.BAD_KEY)
    for second in range(61, 70):
        tell(one, other, second, "one")
        tell(other, one, second, "other")
    for teller in (one, other):
        newcomer = Health("new")
        tell(teller, newcomer, 70)
        assert newcomer.may_try(RUNS, START + 70)
        assert not newcomer.may_try(RUNS, START + 70)


def test_latency_and_conformance_weigh_by_what_each_has_seen() -> None:
    few, many, hearer = Health(), Health(), Health("a")
    for _ in range(2):
        few.record(RUNS, success(10, as_ordered=False), START)
    for _ in range(6):
        many.record(RUNS, success(30, as_ordered=True), START)
    tell(few, hearer, name="few")
    assert seen(hearer, RUNS) == UNKNOWN
    tell(many, hearer, name="many")
    assert seen(hearer, RUNS) == CellSignals(p50=25, p90=25, conformance=0.75, deliveries=8)
    for _ in range(8):
        hearer.record(RUNS, success(45, as_ordered=True), START)
    assert seen(hearer, RUNS) == CellSignals(p50=35, p90=35, conformance=14 / 16, deliveries=16)
    assert seen(hearer, RUNS_LOW) == UNKNOWN


def test_new_news_replace_old_ones() -> None:
    teller, hearer = Health(), Health("a")
    for passed in range(5):
        teller.record(RUNS, success(10), START)
        tell(teller, hearer, passed)
    assert seen(hearer, RUNS, START + 5).p50 == 10
    assert hearer.known(RUNS, START + 5) == CellSignals(p50=10, p90=10)


def test_a_replica_that_falls_silent_is_forgotten() -> None:
    teller, hearer = after(FaultKind.BAD_KEY), Health("a")
    for pause in (60, 180):
        assert teller.may_try(RUNS, START + pause)
        teller.record(RUNS, fault(FaultKind.BAD_KEY), START + pause)
    for _ in range(5):
        teller.record(ELSEWHERE, success(10), START + 180)
    tell(teller, hearer, 181)
    assert not is_healthy(hearer, RUNS, START + 230)
    assert seen(hearer, ELSEWHERE, START + 230).p50 == 10
    hearer.merge("c", b"", START + 242, WALL + 242)
    assert is_healthy(hearer, RUNS, START + 242)
    assert seen(hearer, ELSEWHERE, START + 242) == UNKNOWN
    assert hearer.may_try(RUNS, START + 242)
    assert not hearer.may_try(RUNS, START + 242), "what it told is still worth a trial"


def test_a_replica_that_comes_back_is_heard_again() -> None:
    teller, hearer = after(FaultKind.BAD_KEY), Health("a")
    tell(Health(), hearer, -100)
    assert tell(teller, hearer)
    assert not is_healthy(hearer, RUNS, START)


def test_a_snapshot_is_small() -> None:
    health = Health()
    for where in (RUNS, RUNS_LOW, RUN, ELSEWHERE):
        for number in range(10_000):
            health.record(where, success(1 + number % 500, as_ordered=True), START + number / 20)
    assert len(health.snapshot(START + 500, WALL)) < 700


def test_of_very_many_replicas_the_one_that_spoke_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "MOST_REPLICAS", 2)
    hearer = Health("a")
    tell(after(FaultKind.BAD_KEY), hearer, name="first")
    for name in ("second", "third"):
        tell(Health(), hearer, 1, name)
    assert hearer.may_try(RUNS, START + 1)
    assert not hearer.may_try(RUNS, START + 1)
