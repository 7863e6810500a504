"""What routing gets to know: latency, conformance and load of cells, as far as anything is known of them."""

import pytest

from gateway.catalogue import CELLS
from gateway.routing.plan import Question, plan
from gateway.routing.signals import UNKNOWN, CellSignals
from gateway.upstream import health as health_module
from gateway.upstream.health import Health, Where
from providers.faults import FaultKind
from tests.unit.routing.catalogues import MODEL, request
from tests.unit.upstream.patients import (
    CATALOGUE,
    ELSEWHERE,
    HIGH,
    RUN,
    RUNS,
    RUNS_LOW,
    START,
    after,
    seen,
    success,
)


def idle(_: str) -> float:
    return 0.0


def test_four_successes_are_too_few_to_tell_how_long_it_takes() -> None:
    health = Health()
    for number in range(4):
        health.record(RUNS, success(20), START + number)
    assert seen(health, RUNS, START + 4) == UNKNOWN
    health.record(RUNS, success(20), START + 4)
    assert seen(health, RUNS, START + 4) == CellSignals(p50=20, p90=20)
    assert seen(health, RUNS_LOW, START + 4) == UNKNOWN


def test_quantiles_are_near_the_true_ones() -> None:
    health = Health()
    for number in range(1_000):
        health.record(RUNS, success(10 + number % 100), START + number / 10)
    known = seen(health, RUNS, START + 100)
    assert known.p50 == pytest.approx(59.5, rel=0.05)
    assert known.p90 == pytest.approx(99.5, rel=0.05)


def test_failures_do_not_count_as_quick() -> None:
    health = after(FaultKind.FAILED, 4)
    for _ in range(5):
        health.record(RUNS, success(30), START)
    assert seen(health, RUNS).p50 == 30


def test_latency_of_more_than_a_quarter_of_an_hour_ago_is_forgotten() -> None:
    health = Health()
    for _ in range(5):
        health.record(RUNS, success(30), START)
    assert seen(health, RUNS, START + 719).p50 == 30
    for _ in range(5):
        health.record(RUNS, success(10), START + 700)
    assert seen(health, RUNS, START + 901).p50 == 10
    assert seen(health, RUNS, START + 5_000).p50 is None


def test_conformance_is_that_of_the_last_fifty_deliveries_whose_conformance_is_known() -> None:
    health = Health()
    for _ in range(4):
        health.record(RUNS, success(as_ordered=True), START)
    assert seen(health, RUNS).conformance is None
    health.record(RUNS, success(as_ordered=None), START)
    assert seen(health, RUNS).conformance is None
    health.record(RUNS, success(as_ordered=False), START)
    assert seen(health, RUNS).conformance == 0.8
    for _ in range(49):
        health.record(RUNS, success(as_ordered=True), START)
    assert seen(health, RUNS).conformance == 0.98
    health.record(RUNS, success(as_ordered=True), START)
    assert seen(health, RUNS).conformance == 1.0


def test_nothing_is_said_of_cells_of_which_nothing_is_known() -> None:
    signals = Health().signals(CATALOGUE, START, idle)
    assert dict(signals) == {}
    assert len(signals) == 0
    assert signals.get(("nobody", MODEL, HIGH), UNKNOWN) == UNKNOWN


def test_signals_name_every_cell_of_a_shut_account_and_what_was_measured_elsewhere() -> None:
    health = after(FaultKind.BAD_KEY)
    for _ in range(5):
        health.record(ELSEWHERE, success(20, as_ordered=True), START)
    signals = health.signals(CATALOGUE, START, idle)
    shut = {(seller, MODEL, cell): CellSignals(healthy=False) for seller in ("runs", "run") for cell in CELLS}
    assert dict(signals) == shut | {ELSEWHERE.key: CellSignals(p50=20, p90=20, conformance=1.0, deliveries=5)}
    assert len(signals) == 2 * len(CELLS) + 1


def test_signals_carry_the_load_of_the_account() -> None:
    signals = Health().signals(CATALOGUE, START, {"runflow": 1.5, "runapi": 0.0}.__getitem__)
    assert {key[0] for key in signals} == {"runs", "run"}
    assert {known.load for known in signals.values()} == {1.5}


def test_a_plan_puts_what_is_shut_behind_all_that_is_not() -> None:
    health = after(FaultKind.NO_CREDIT)

    def sellers(now: float) -> list[str]:
        made = plan(CATALOGUE, Question(request=request()), health.signals(CATALOGUE, now, idle))
        return [one.fit.offer.seller.name for one in made.ranked]

    assert sellers(START) == ["runapi", "runs", "run"]
    assert sellers(START + 60) == ["runs", "run", "runapi"], "somebody has to be the trial"


def test_the_cell_that_was_not_touched_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "MOST_CELLS", 3)
    health = Health()
    for where in (RUNS, RUN, *(Where("s", "a", f"model-{number}", HIGH) for number in range(2))):
        for _ in range(5):
            health.record(where, success(10), START)
            health.record(RUNS, success(10), START)
    assert seen(health, RUN) == UNKNOWN
    assert seen(health, RUNS).p50 == 10
