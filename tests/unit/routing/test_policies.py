"""Policies: rules, limits, weights, health, and the reasons in plans."""

from collections import Counter
from typing import Any

import pytest

from gateway.config.policy_schema import PolicyConfig, Rank
from gateway.config.schema import RuleConditions, RuleConfig, TeamConfig
from gateway.config.value_types import Percent, Usd
from gateway.routing.plan import Plan, RoutingError, RoutingLimits, RoutingQuery, make_plan
from gateway.routing.signals import CellSignals
from tests.harness.image_model import ALL_CELLS, target_from_ratio
from tests.unit.routing.catalogue_factory import (
    MODEL,
    make_account,
    make_catalogue,
    make_offer,
    make_request,
    make_uniform_prices,
)

CHEAP_OFFER = make_offer("cheap", make_uniform_prices(10_000), seconds=(40.0, 80.0), position=0)
MIDDLE_OFFER = make_offer("middle", make_uniform_prices(20_000), seconds=(20.0, 30.0), position=1)
FAST_OFFER = make_offer("fast", make_uniform_prices(30_000), seconds=(5.0, 9.0), position=2)
CHEAP_SECONDS = (40.0, 80.0)
ALL_OFFERS = [CHEAP_OFFER, MIDDLE_OFFER, FAST_OFFER]


def list_ranked(plan_result: Plan) -> list[str]:
    return [entry.fit.offer.seller.name for entry in plan_result.ranked]


def list_exclusion_reasons(plan_result: Plan) -> dict[str, tuple[str, ...]]:
    return {entry.seller: entry.reasons for entry in plan_result.excluded}


NO_LIMITS = RoutingLimits()


def plan_with_policy(
    policy: PolicyConfig, signals: Any = None, draw: float = 0.0, limits: RoutingLimits = NO_LIMITS
) -> Plan:
    return make_plan(
        make_catalogue(ALL_OFFERS, {"it": policy}),
        RoutingQuery(request=make_request(), limits=limits),
        signals or {},
        draw,
    )


def test_each_rank_has_its_order() -> None:
    assert list_ranked(plan_with_policy(PolicyConfig(rank="cost"))) == ["cheap", "middle", "fast"]
    assert list_ranked(plan_with_policy(PolicyConfig(rank="latency"))) == ["fast", "middle", "cheap"]
    listed = PolicyConfig(rank="listed", sellers=("middle", "fast"))
    assert list_ranked(plan_with_policy(listed)) == ["middle", "fast"]
    assert list_exclusion_reasons(plan_with_policy(listed)) == {"cheap": ("not listed in the policy's 'sellers'",)}


def test_regions_of_policy_and_team_exclude_sellers() -> None:
    offers = [
        make_offer(str(region), make_uniform_prices(10_000), account=make_account(region=region), position=position)
        for position, region in enumerate(("eu", "na", None))
    ]
    catalogue = make_catalogue(
        offers,
        {"western": PolicyConfig(rank="cost", regions=("eu", "na"))},
        teams={"european": TeamConfig(regions=("eu", "asia")), "anywhere": TeamConfig()},
    )
    european, anywhere = (
        make_plan(catalogue, RoutingQuery(request=make_request(), team=team), {}) for team in ("european", "anywhere")
    )
    assert list_ranked(european) == ["eu"]
    assert list_exclusion_reasons(european) == {
        "na": ("in region na, allowed is eu",),
        "None": ("in region unknown, allowed is eu",),
    }
    assert list_ranked(anywhere) == ["eu", "na"]


def test_near_prices_are_ties_broken_by_latency() -> None:
    assert list_ranked(plan_with_policy(PolicyConfig(rank="cost", within=Percent(10_000)))) == [
        "middle",
        "cheap",
        "fast",
    ]


def test_equal_prices_are_ties_without_within() -> None:
    equal_offers = [
        make_offer(name, make_uniform_prices(10_000), seconds=CHEAP_SECONDS, position=position)
        for position, name in enumerate("abc")
    ]
    policy = PolicyConfig(rank="cost", then="listed", sellers=("c", "a", "b"))
    plan_result = make_plan(make_catalogue(equal_offers, {"it": policy}), RoutingQuery(request=make_request()), {})
    assert list_ranked(plan_result) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((40.0, 1.0), (40.002, 1.0), "ab"),
        ((40.002, 1.0), (40.0, 1.0), "ab"),
        ((43.9, 1.0), (40.0, 1.0), "ab"),
        ((44.1, 1.0), (40.0, 1.0), "ba"),
        ((2.9, 1.0), (2.0, 1.0), "ab"),
        ((3.1, 1.0), (2.0, 1.0), "ba"),
        ((40.0, 0.92), (40.5, 0.98), "ba"),
        ((40.0, 0.92), (50.0, 0.98), "ab"),
    ],
)
@pytest.mark.parametrize("then", ["latency", "cost"])
def test_similar_latencies_are_ties(
    first: tuple[float, float], second: tuple[float, float], expected: str, then: Rank
) -> None:
    """With equal prices and no list, conformance decides, then the file name."""
    equal_offers = [
        make_offer(name, make_uniform_prices(10_000), position=position) for position, name in enumerate("ab")
    ]
    signals = {
        (name, MODEL, cell): CellSignals(p50=p50, p90=90.0, conformance=share, deliveries=50)
        for name, (p50, share) in zip("ab", (first, second), strict=True)
        for cell in ALL_CELLS
    }
    plan_result = make_plan(
        make_catalogue(equal_offers, {"it": PolicyConfig(rank="cost", then=then)}),
        RoutingQuery(request=make_request()),
        signals,
    )
    assert list_ranked(plan_result) == list(expected)


def test_latency_policy_uses_only_its_own_tolerance() -> None:
    signals = make_signals(cheap=CellSignals(p50=5.1, p90=9.0))
    assert list_ranked(plan_with_policy(PolicyConfig(rank="latency"), signals)) == ["fast", "cheap", "middle"]
    assert (
        list_ranked(plan_with_policy(PolicyConfig(rank="latency", within=Percent(500), then="cost"), signals))[0]
        == "cheap"
    )


def test_weights_distribute_first_position() -> None:
    policy = PolicyConfig(rank="weighted", weights={"cheap": 70, "fast": 30, "middle": 0})
    firsts = Counter(list_ranked(plan_with_policy(policy, draw=(number + 0.5) / 1_000))[0] for number in range(1_000))
    assert firsts == {"cheap": 700, "fast": 300}
    assert list_exclusion_reasons(plan_with_policy(policy)) == {"middle": ("has no weight in the policy",)}


def test_one_draw_distributes_later_positions_by_weight() -> None:
    policy = PolicyConfig(rank="weighted", weights={"cheap": 2, "middle": 1, "fast": 1})
    seconds = Counter(
        tuple(list_ranked(plan_with_policy(policy, draw=(number + 0.5) / 1_200))) for number in range(1_200)
    )
    # P(cheap, middle, fast) = 1/2 x 1/2, P(middle, cheap, fast) = 1/4 x 2/3, and so on.
    assert seconds["cheap", "middle", "fast"] == seconds["cheap", "fast", "middle"] == 300
    assert seconds["middle", "cheap", "fast"] == seconds["fast", "cheap", "middle"] == 200
    assert seconds["middle", "fast", "cheap"] == seconds["fast", "middle", "cheap"] == 100


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (RoutingLimits(max_price=20_000), ["cheap", "middle"]),
        (RoutingLimits(max_price=19_999), ["cheap"]),
        (RoutingLimits(max_cost=10_000), ["cheap"]),
        (RoutingLimits(max_seconds=30.0), ["middle", "fast"]),
        (RoutingLimits(max_seconds=29.9), ["fast"]),
        (RoutingLimits(only=("fast", "middle")), ["middle", "fast"]),
        (RoutingLimits(ignore=("cheap",)), ["middle", "fast"]),
        (RoutingLimits(only=("fast",), ignore=("fast",)), []),
    ],
)
def test_request_limits_narrow_the_choice(limits: RoutingLimits, expected: list[str]) -> None:
    plan_result = plan_with_policy(PolicyConfig(rank="cost"), limits=limits)
    assert list_ranked(plan_result) == expected
    assert all(reasons for reasons in list_exclusion_reasons(plan_result).values())


def test_narrowest_of_policy_team_and_request_wins() -> None:
    policy = PolicyConfig(rank="cost", max_price=Usd(30_000), only=("cheap", "middle"))
    catalogue = make_catalogue(ALL_OFFERS, {"it": policy}, teams={"t": TeamConfig(max_cost=Usd(45_000))})

    def list_sellers(limits: RoutingLimits, n: int = 1) -> list[str]:
        return list_ranked(make_plan(catalogue, RoutingQuery(request=make_request(n=n), team="t", limits=limits), {}))

    assert list_sellers(RoutingLimits()) == ["cheap", "middle"]
    assert list_sellers(RoutingLimits(max_price=99_000)) == ["cheap", "middle"]
    assert list_sellers(RoutingLimits(max_price=15_000)) == ["cheap"]
    assert list_sellers(RoutingLimits(only=("middle", "fast"))) == ["middle"]
    assert list_sellers(RoutingLimits(), n=3) == ["cheap"]
    assert list_sellers(RoutingLimits(max_cost=99_000_000), n=3) == ["cheap"]


def test_first_matching_rule_decides() -> None:
    rules = [
        RuleConfig(when=RuleConditions(team="ads", resolution=("2k", "4k")), use="fast"),
        RuleConfig(when=RuleConditions(n=(2, 3)), use="steady"),
        RuleConfig(when=RuleConditions(metadata={"campaign": "x"}), use="fast"),
    ]
    policies = {
        "cheapest": PolicyConfig(rank="cost"),
        "fast": PolicyConfig(rank="latency"),
        "steady": PolicyConfig(rank="listed", sellers=("middle",)),
    }
    teams = {"ads": TeamConfig(), "others": TeamConfig()}
    catalogue = make_catalogue(ALL_OFFERS, policies, rules, teams)

    def choose_policy(team: str | None, **changes: Any) -> tuple[str, int | None]:
        plan_result = make_plan(catalogue, RoutingQuery(request=make_request(**changes), team=team), {})
        return plan_result.policy, plan_result.rule_number

    two_k = target_from_ratio("1:1", "2k")
    assert choose_policy("ads", target=two_k) == ("fast", 1)
    assert choose_policy("ads", target=two_k, n=2) == ("fast", 1)
    assert choose_policy("others", target=two_k) == ("cheapest", 0)
    assert choose_policy(None, n=3) == ("steady", 2)
    assert choose_policy(None, metadata={"campaign": "x", "more": "y"}) == ("fast", 3)
    assert choose_policy(None, metadata={"campaign": "y"}) == ("cheapest", 0)


def test_policy_may_be_requested_if_team_allows_it() -> None:
    policies = {"cheapest": PolicyConfig(rank="cost"), "fast": PolicyConfig(rank="latency")}
    catalogue = make_catalogue(ALL_OFFERS, policies, teams={"t": TeamConfig(policies=("fast",))})

    def request_policy(team: str | None, policy: str) -> Plan:
        return make_plan(catalogue, RoutingQuery(request=make_request(), team=team, policy=policy), {})

    plan_result = request_policy("t", "fast")
    assert (plan_result.policy, plan_result.rule_number) == ("fast", None)
    for team in ("t", None, "nobody"):
        with pytest.raises(RoutingError, match="may not request policy 'cheapest'"):
            request_policy(team, "cheapest")
    with pytest.raises(RoutingError, match="did you mean 'fast'"):
        request_policy("t", "fats")


def make_signals(**by_seller: CellSignals) -> Any:
    return {(seller, MODEL, cell): cell_signals for seller, cell_signals in by_seller.items() for cell in ALL_CELLS}


def test_unhealthy_seller_ranks_last_but_is_not_excluded() -> None:
    unhealthy = CellSignals(healthy=False)
    plan_result = plan_with_policy(PolicyConfig(rank="cost"), make_signals(cheap=unhealthy))
    assert list_ranked(plan_result) == ["middle", "fast", "cheap"]
    assert plan_result.excluded == ()
    assert "unhealthy, ranked after healthy sellers" in plan_result.ranked[-1].reasons
    assert list_ranked(
        plan_with_policy(PolicyConfig(rank="cost"), make_signals(cheap=unhealthy, middle=unhealthy, fast=unhealthy))
    ) == [
        "cheap",
        "middle",
        "fast",
    ]


def test_seller_at_limit_ranks_before_unhealthy_one() -> None:
    signals = make_signals(cheap=CellSignals(healthy=False), middle=CellSignals(load=1.0))
    assert list_ranked(plan_with_policy(PolicyConfig(rank="cost"), signals)) == ["fast", "middle", "cheap"]


def test_unhealthy_seller_does_not_affect_ties_of_others() -> None:
    """Healthy sellers are ranked as if the unhealthy one were absent, whatever its price."""
    policy = PolicyConfig(rank="cost", within=10_000_000, then="latency")
    others = [seller for seller in list_ranked(plan_with_policy(policy, {})) if seller != "cheap"]
    assert list_ranked(plan_with_policy(policy, make_signals(cheap=CellSignals(healthy=False)))) == [*others, "cheap"]


def test_health_is_tracked_per_cell() -> None:
    signals = {("cheap", MODEL, cell): CellSignals(healthy=False) for cell in ALL_CELLS if cell.quality == "low"}
    catalogue = make_catalogue(ALL_OFFERS)
    assert list_ranked(make_plan(catalogue, RoutingQuery(request=make_request(quality="low")), signals)) == [
        "middle",
        "fast",
        "cheap",
    ]
    assert list_ranked(make_plan(catalogue, RoutingQuery(request=make_request()), signals)) == [
        "cheap",
        "middle",
        "fast",
    ]


def test_seller_at_limit_ranks_after_others() -> None:
    plan_result = plan_with_policy(PolicyConfig(rank="cost"), make_signals(cheap=CellSignals(load=1.0)))
    assert list_ranked(plan_result) == ["middle", "fast", "cheap"]
    assert "at its concurrency limit, ranked after sellers that are not" in plan_result.ranked[2].reasons


def test_measured_latency_replaces_expected_latency() -> None:
    plan_result = plan_with_policy(PolicyConfig(rank="latency"), make_signals(cheap=CellSignals(p50=1.0, p90=3.0)))
    assert list_ranked(plan_result)[0] == "cheap"
    assert plan_result.ranked[0].expected_seconds == 1.0
    narrowed = plan_with_policy(
        PolicyConfig(rank="cost", max_seconds=3.0), make_signals(cheap=CellSignals(p50=1.0, p90=3.0))
    )
    assert list_ranked(narrowed) == ["cheap"]
