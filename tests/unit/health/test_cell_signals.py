"""Signals for routing: latency, conformance and load of the cells that have any data."""

import pytest

from gateway.health import health_tracker as health_module
from gateway.health.health_tracker import HealthKey, HealthTracker
from gateway.routing.plan import RoutingQuery, make_plan
from gateway.routing.signals import UNKNOWN_SIGNALS, CellSignals
from providers.faults import FaultKind
from tests.harness.image_model import ALL_CELLS
from tests.unit.health.health_samples import (
    CATALOGUE,
    HIGH_CELL,
    OTHER_ACCOUNT,
    RUN_HIGH,
    RUNS_HIGH,
    RUNS_LOW,
    START,
    get_signals,
    make_success,
    make_tracker,
)
from tests.unit.health.load_functions import get_zero_load
from tests.unit.routing.catalogue_factory import MODEL, make_request


def test_latency_needs_five_successes() -> None:
    health = HealthTracker()
    for number in range(4):
        health.record(RUNS_HIGH, make_success(20), START + number)
    assert get_signals(health, RUNS_HIGH, START + 4) == UNKNOWN_SIGNALS
    health.record(RUNS_HIGH, make_success(20), START + 4)
    assert get_signals(health, RUNS_HIGH, START + 4) == CellSignals(p50=20, p90=20)
    assert get_signals(health, RUNS_LOW, START + 4) == UNKNOWN_SIGNALS


def test_quantiles_are_close_to_exact() -> None:
    health = HealthTracker()
    for number in range(1_000):
        health.record(RUNS_HIGH, make_success(10 + number % 100), START + number / 10)
    signals = get_signals(health, RUNS_HIGH, START + 100)
    assert signals.p50 == pytest.approx(59.5, rel=0.05)
    assert signals.p90 == pytest.approx(99.5, rel=0.05)


def test_failures_do_not_count_as_fast() -> None:
    health = make_tracker(FaultKind.ORDER_FAILED, 4)
    for _ in range(5):
        health.record(RUNS_HIGH, make_success(30), START)
    assert get_signals(health, RUNS_HIGH).p50 == 30


def test_latency_older_than_fifteen_minutes_is_forgotten() -> None:
    health = HealthTracker()
    for _ in range(5):
        health.record(RUNS_HIGH, make_success(30), START)
    assert get_signals(health, RUNS_HIGH, START + 719).p50 == 30
    for _ in range(5):
        health.record(RUNS_HIGH, make_success(10), START + 700)
    assert get_signals(health, RUNS_HIGH, START + 901).p50 == 10
    assert get_signals(health, RUNS_HIGH, START + 5_000).p50 is None


def test_conformance_covers_last_fifty_known_deliveries() -> None:
    health = HealthTracker()
    for _ in range(4):
        health.record(RUNS_HIGH, make_success(is_as_ordered=True), START)
    assert get_signals(health, RUNS_HIGH).conformance is None
    health.record(RUNS_HIGH, make_success(is_as_ordered=None), START)
    assert get_signals(health, RUNS_HIGH).conformance is None
    health.record(RUNS_HIGH, make_success(is_as_ordered=False), START)
    assert get_signals(health, RUNS_HIGH).conformance == 0.8
    for _ in range(49):
        health.record(RUNS_HIGH, make_success(is_as_ordered=True), START)
    assert get_signals(health, RUNS_HIGH).conformance == 0.98
    health.record(RUNS_HIGH, make_success(is_as_ordered=True), START)
    assert get_signals(health, RUNS_HIGH).conformance == 1.0


def test_cells_without_data_have_no_signals() -> None:
    signals = HealthTracker().get_catalogue_signals(CATALOGUE, START, get_zero_load)
    assert dict(signals) == {}
    assert len(signals) == 0
    assert signals.get(("unknown", MODEL, HIGH_CELL), UNKNOWN_SIGNALS) == UNKNOWN_SIGNALS


def test_signals_list_unhealthy_account_and_measured_cells() -> None:
    health = make_tracker(FaultKind.INVALID_KEY)
    for _ in range(5):
        health.record(OTHER_ACCOUNT, make_success(20, is_as_ordered=True), START)
    signals = health.get_catalogue_signals(CATALOGUE, START, get_zero_load)
    unhealthy = {(seller, MODEL, cell): CellSignals(healthy=False) for seller in ("runs", "run") for cell in ALL_CELLS}
    assert dict(signals) == unhealthy | {
        OTHER_ACCOUNT.cell_key: CellSignals(p50=20, p90=20, conformance=1.0, deliveries=5)
    }
    assert len(signals) == 2 * len(ALL_CELLS) + 1


def test_signals_carry_load_of_account() -> None:
    signals = HealthTracker().get_catalogue_signals(CATALOGUE, START, {"runflow": 1.5, "runapi": 0.0}.__getitem__)
    assert {key[0] for key in signals} == {"runs", "run"}
    assert {cell_signals.load for cell_signals in signals.values()} == {1.5}


def test_plan_ranks_unhealthy_sellers_last() -> None:
    health = make_tracker(FaultKind.NO_CREDIT)

    def rank_sellers(now: float) -> list[str]:
        plan_result = make_plan(
            CATALOGUE, RoutingQuery(request=make_request()), health.get_catalogue_signals(CATALOGUE, now, get_zero_load)
        )
        return [entry.fit.offer.seller.name for entry in plan_result.ranked]

    assert rank_sellers(START) == ["runapi", "runs", "run"]
    assert rank_sellers(START + 60) == ["runs", "run", "runapi"], "one seller must get the probe"


def test_least_recently_used_cell_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "MAX_CELLS", 3)
    health = HealthTracker()
    for key in (RUNS_HIGH, RUN_HIGH, *(HealthKey("s", "a", f"model-{number}", HIGH_CELL) for number in range(2))):
        for _ in range(5):
            health.record(key, make_success(10), START)
            health.record(RUNS_HIGH, make_success(10), START)
    assert get_signals(health, RUN_HIGH) == UNKNOWN_SIGNALS
    assert get_signals(health, RUNS_HIGH).p50 == 10
