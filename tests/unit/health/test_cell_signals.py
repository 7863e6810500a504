"""Signals for routing: latency, conformance and load of the cells that have any data."""

from random import Random

import pytest
from msgspec.structs import replace

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
    make_failure,
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


def test_time_of_moderation_does_not_count_as_latency() -> None:
    health = HealthTracker()
    for _ in range(5):
        health.record(RUNS_HIGH, replace(make_success(50), moderation_seconds=20.0), START)
    assert get_signals(health, RUNS_HIGH).p50 == 30


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


# --- the p90, by which deadlines are judged


def test_orders_that_time_out_count_with_their_time_in_the_p90_and_not_in_the_p50() -> None:
    health = HealthTracker()
    for number in range(20):
        is_lost = number % 10 < 3
        outcome = make_failure(FaultKind.ORDER_TIMED_OUT, seconds=420.0) if is_lost else make_success(10)
        health.record(RUNS_HIGH, outcome, START + number)
    signals = get_signals(health, RUNS_HIGH, START + 20)
    assert (signals.p50, signals.p90) == (10, 420)
    assert signals.healthy


def test_orders_that_fail_late_count_in_the_p90_and_those_that_fail_at_once_do_not() -> None:
    health = HealthTracker()
    for number in range(10):
        health.record(RUNS_HIGH, make_success(10), START + number)
        seconds = 90.0 if number % 3 == 0 else 0.1
        health.record(RUNS_HIGH, make_failure(FaultKind.ORDER_FAILED, seconds=seconds), START + number)
    assert (get_signals(health, RUNS_HIGH).p50, get_signals(health, RUNS_HIGH).p90) == (10, 90)
    refused = HealthTracker()
    for number in range(10):
        refused.record(RUNS_HIGH, make_success(10), START + number)
        refused.record(RUNS_HIGH, make_failure(FaultKind.RATE_LIMITED, seconds=0.1), START + number)
        refused.record(RUNS_HIGH, make_failure(FaultKind.ORDER_FAILED, seconds=2.0), START + number)
    assert (get_signals(refused, RUNS_HIGH).p50, get_signals(refused, RUNS_HIGH).p90) == (10, 10)


def test_cell_whose_orders_all_time_out_has_a_p90_and_no_p50() -> None:
    health = HealthTracker()
    for number in range(5):
        health.record(RUNS_HIGH, make_failure(FaultKind.ORDER_TIMED_OUT, seconds=420.0), START + number)
    signals = get_signals(health, RUNS_HIGH)
    assert (signals.p50, signals.p90) == (None, 420)


@pytest.mark.parametrize(
    ("counts_by_seconds", "p90"),
    [
        ({10.0: 10, 100.0: 10}, 100),
        ({10.0: 1_000, 400.0: 1}, 10),
        ({10.0: 95, 100.0: 5}, 10),
        ({10.0: 80, 100.0: 20}, 100),
        ({20.0: 7, 20.001: 3}, 20),
    ],
)
def test_p90_of_replicas_is_that_of_all_their_orders(counts_by_seconds: dict[float, int], p90: float) -> None:
    receiver, snapshots = HealthTracker("receiver"), {}
    for number, (seconds, count) in enumerate(counts_by_seconds.items()):
        sender = HealthTracker(f"sender {number}")
        for _ in range(count):
            sender.record(RUNS_HIGH, make_success(seconds), START)
        snapshots[f"sender {number}"] = sender.make_snapshot(START)
    receiver.merge_snapshots(snapshots, START)
    assert get_signals(receiver, RUNS_HIGH).p90 == pytest.approx(p90, rel=0.001)


@pytest.mark.parametrize("seed", range(20))
def test_merged_p90_is_hardly_ever_below_the_true_one(seed: int) -> None:
    """With different replicas it may be above: a seller whose p90 is unsure is not in time."""
    numbers = Random(seed)  # noqa: S311
    everything, receiver, snapshots = HealthTracker(), HealthTracker("receiver"), {}
    for replica in range(numbers.randint(2, 6)):
        sender, median = HealthTracker(f"sender {replica}"), numbers.choice([5, 20, 80])
        for _ in range(numbers.choice([5, 50, 200])):
            outcome = make_success(median * numbers.lognormvariate(0, 0.4))
            for health in (sender, everything):
                health.record(RUNS_HIGH, outcome, START)
        snapshots[f"sender {replica}"] = sender.make_snapshot(START)
    receiver.merge_snapshots(snapshots, START)
    merged, true = get_signals(receiver, RUNS_HIGH).p90, get_signals(everything, RUNS_HIGH).p90
    assert merged is not None
    assert true is not None
    assert 0.9 * true <= merged <= 4 * true
