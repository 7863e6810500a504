"""Policies of rank deadline: the cheapest offer that is ready in time, from measured or configured times."""

import pytest

from gateway.config.policy_schema import PolicyConfig
from gateway.config.value_types import Percent
from gateway.health.health_tracker import HealthKey, HealthTracker, OrderOutcome
from gateway.health.rolling_stats import MIN_LATENCY_SAMPLES
from gateway.routing.plan import Plan, RoutingLimits, RoutingQuery, make_plan
from gateway.routing.plan_json import plan_to_json
from gateway.routing.signals import CellSignals, Signals
from providers.orders import Cell, Operation
from tests.unit.routing.catalogue_factory import MODEL, make_catalogue, make_offer, make_request, make_uniform_prices

OFFERS = [
    make_offer("cheap", make_uniform_prices(10_000), seconds=(40.0, 80.0), position=0),
    make_offer("middle", make_uniform_prices(20_000), seconds=(20.0, 30.0), position=1),
    make_offer("fast", make_uniform_prices(30_000), seconds=(5.0, 9.0), position=2),
]
CELL = Cell(Operation.GENERATE, "1k", "high")
NO_LIMITS = RoutingLimits()


def plan_within(
    max_seconds: float, signals: Signals | None = None, limits: RoutingLimits = NO_LIMITS, within: int = 0
) -> Plan:
    policy = PolicyConfig(rank="deadline", max_seconds=max_seconds, within=Percent(within))
    catalogue = make_catalogue(OFFERS, {"punctual": policy})
    return make_plan(catalogue, RoutingQuery(request=make_request(), limits=limits), signals or {})


def list_sellers(plan: Plan) -> list[str]:
    return [ranked.candidate.seller for ranked in plan.ranked]


@pytest.mark.parametrize(
    ("max_seconds", "expected"),
    [
        (80.0, ["cheap", "middle", "fast"]),
        (79.0, ["middle", "fast", "cheap"]),
        (30.0, ["middle", "fast", "cheap"]),
        (29.0, ["fast", "middle", "cheap"]),
        (9.0, ["fast", "middle", "cheap"]),
        (8.0, ["fast", "middle", "cheap"]),
    ],
)
def test_cheapest_offer_in_time_is_first_and_late_offers_are_last_by_speed(
    max_seconds: float, expected: list[str]
) -> None:
    plan = plan_within(max_seconds)
    assert list_sellers(plan) == expected
    assert plan.excluded == ()


def test_each_offer_compares_its_p90_with_the_deadline() -> None:
    plan = plan_within(40.0, {("fast", MODEL, CELL): CellSignals(p50=6.0, p90=12.5)})
    assert [ranked.reasons for ranked in plan.ranked] == [
        ("first by deadline", "configured p90 of 30 s is within the deadline of 40 s"),
        ("number 2 by deadline", "measured p90 of 12.5 s is within the deadline of 40 s"),
        (
            "number 3 by deadline",
            "configured p90 of 80 s exceeds the deadline of 40 s, ranked after sellers in time, fastest first",
        ),
    ]
    assert plan.warnings == ()


def test_shorter_deadline_of_policy_and_client_wins() -> None:
    assert list_sellers(plan_within(80.0, limits=RoutingLimits(max_seconds=29.0))) == ["fast", "middle", "cheap"]
    assert list_sellers(plan_within(29.0, limits=RoutingLimits(max_seconds=80.0))) == ["fast", "middle", "cheap"]


def test_plan_warns_if_no_seller_is_in_time() -> None:
    plan = plan_within(30.0, limits=RoutingLimits(max_seconds=5.0))
    assert list_sellers(plan) == ["fast", "middle", "cheap"]
    assert plan.warnings == (
        "deadline_unlikely: no available seller is ready within 5 s in nine of ten orders; the first needs 9 s",
    )
    assert plan_to_json(make_catalogue(OFFERS), plan)["warnings"] == list(plan.warnings)


def test_near_prices_of_sellers_in_time_are_ties() -> None:
    assert list_sellers(plan_within(80.0, within=10_000)) == ["middle", "cheap", "fast"]
    assert list_sellers(plan_within(79.0, within=5_000)) == ["fast", "middle", "cheap"]


def test_unhealthy_or_busy_seller_in_time_is_tried_after_a_late_one() -> None:
    unhealthy = {("fast", MODEL, CELL): CellSignals(healthy=False)}
    plan = plan_within(10.0, unhealthy)
    assert list_sellers(plan) == ["middle", "cheap", "fast"]
    assert plan.warnings[0].endswith("the first needs 30 s")
    busy = {("fast", MODEL, CELL): CellSignals(load=1.0)}
    assert list_sellers(plan_within(10.0, busy)) == ["middle", "cheap", "fast"]


def test_configured_time_counts_until_enough_orders_are_measured() -> None:
    """Then the seller's own 90th percentile decides, as long as its orders are recent."""
    catalogue, health = make_catalogue(OFFERS), HealthTracker()
    key = HealthKey("cheap", OFFERS[0].seller.account.name, MODEL, CELL)
    for number in range(MIN_LATENCY_SAMPLES):
        signals = health.get_catalogue_signals(catalogue, 100.0 + number, lambda account: 0.0)
        assert list_sellers(plan_within(60.0, signals)) == ["middle", "fast", "cheap"]
        health.record(key, OrderOutcome(elapsed_seconds=50.0, is_as_ordered=True), 100.0 + number)
    measured = health.get_catalogue_signals(catalogue, 200.0, lambda account: 0.0)
    assert list_sellers(plan_within(60.0, measured)) == ["cheap", "middle", "fast"]
    assert list_sellers(plan_within(49.0, measured)) == ["middle", "fast", "cheap"]
    an_hour_later = health.get_catalogue_signals(catalogue, 3_800.0, lambda account: 0.0)
    assert list_sellers(plan_within(60.0, an_hour_later)) == ["middle", "fast", "cheap"]
