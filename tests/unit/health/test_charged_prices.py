"""The charged price of a cell: the median of the last charges of a day, over all replicas."""

import pytest
from msgspec.structs import replace

from gateway.health.charged_prices import CHARGE_WINDOW_SECONDS
from gateway.health.health_tracker import HealthTracker
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from gateway.routing.signals import CellSignals
from tests.unit.health.health_samples import RUNS_HIGH, RUNS_LOW, START
from tests.unit.routing.catalogue_factory import MODEL, make_catalogue, make_offer, make_request, make_uniform_prices

CHEAP, DEAR = 10_000, 12_000


def make_tracker(name: str = "", *prices: int, believes: bool = True) -> HealthTracker:
    health = HealthTracker(name)
    health.believes_charged_prices = believes
    for number, price in enumerate(prices):
        health.record_charge(RUNS_HIGH, price, START + number)
    return health


def get_price(health: HealthTracker, seconds: float = 10.0) -> int | None:
    return health.get_signals(RUNS_HIGH, START + seconds).charged_price


@pytest.mark.parametrize(
    ("charges", "expected"),
    [((), None), ((5, 5), None), ((5, 5, 9), 5), ((5, 5, 9, 9, 9), 9), ((5, 5, 5, 5, 5, 9, 9, 9), 9), ((7, 900, 7), 7)],
)
def test_price_is_the_median_of_the_last_five_charges(charges: tuple[int, ...], expected: int | None) -> None:
    assert get_price(make_tracker("", *charges)) == expected


def test_charges_of_other_cells_do_not_count() -> None:
    health = make_tracker("", 5, 5)
    health.record_charge(RUNS_LOW, 5, START)
    assert get_price(health) is None


def test_charges_are_forgotten_after_a_day() -> None:
    health = make_tracker("", 5, 5, 5)
    assert get_price(health, CHARGE_WINDOW_SECONDS) == 5
    assert get_price(health, CHARGE_WINDOW_SECONDS + 10) is None


def test_charges_are_not_believed_by_default() -> None:
    assert get_price(make_tracker("", 5, 5, 5, believes=False)) is None
    assert HealthTracker().believes_charged_prices is False


def test_replicas_count_their_charges_together() -> None:
    here, there = make_tracker("here", 5, 5), make_tracker("there", 9)
    for _ in range(2):
        here.merge_snapshots({"there": there.make_snapshot(START + 5)}, START + 5)
        there.merge_snapshots({"here": here.make_snapshot(START + 5)}, START + 5)
    assert get_price(here) == get_price(there) == 5


def make_plan_with_charge(charged_price: int) -> Plan:
    offers = [
        make_offer("cheap", make_uniform_prices(CHEAP), position=0),
        make_offer("dear", make_uniform_prices(DEAR), position=1),
    ]
    request = make_request()
    cell = next(iter(make_plan(make_catalogue(offers), RoutingQuery(request=request), {}).ranked)).fit.cell
    signals = {("cheap", MODEL, cell): replace(CellSignals(), charged_price=charged_price)}
    return make_plan(make_catalogue(offers), RoutingQuery(request=request), signals)


@pytest.mark.parametrize(
    ("charged_price", "first", "ceiling"), [(CHEAP, "cheap", CHEAP), (20_000, "dear", 20_000), (8_000, "cheap", CHEAP)]
)
def test_charged_price_counts_for_the_rank_and_the_higher_one_for_the_hold(
    charged_price: int, first: str, ceiling: int
) -> None:
    plan = make_plan_with_charge(charged_price)
    assert plan.ranked[0].candidate.seller == first
    [quote] = [entry.quote for entry in plan.ranked if entry.candidate.seller == "cheap"]
    assert (quote.total, quote.ceiling) == (charged_price, ceiling)
