"""Policies at work: rules, narrowing, weights, health, and what a plan says about it all."""

from collections import Counter
from typing import Any

import pytest

from gateway.catalogue import CELLS
from gateway.config.blocks import PolicyConfig, Rank, RuleConfig, TeamConfig, When
from gateway.config.values import Percent, Usd
from gateway.routing.plan import Limits, Plan, Question, RoutingError, plan
from gateway.routing.signals import CellSignals
from providers.orders import Quality
from providers.sizes import Resolution, target_of_shape
from tests.unit.routing.catalogues import (
    MODEL,
    catalogue,
    everywhere,
    offer,
    request,
)

CHEAP = offer("cheap", everywhere(10_000), seconds=(40.0, 80.0), position=0)
MIDDLE = offer("middle", everywhere(20_000), seconds=(20.0, 30.0), position=1)
FAST = offer("fast", everywhere(30_000), seconds=(5.0, 9.0), position=2)
CHEAP_SECONDS = (40.0, 80.0)
ALL = [CHEAP, MIDDLE, FAST]


def order_of(made: Plan) -> list[str]:
    return [one.fit.offer.seller.name for one in made.ranked]


def out(made: Plan) -> dict[str, tuple[str, ...]]:
    return {one.seller: one.reasons for one in made.excluded}


def by(policy: PolicyConfig, signals: Any = None, draw: float = 0.0, limits: Limits = Limits()) -> Plan:  # noqa: B008 - immutable
    return plan(catalogue(ALL, {"it": policy}), Question(request=request(), limits=limits), signals or {}, draw)


def test_each_rank_has_its_order() -> None:
    assert order_of(by(PolicyConfig(rank="cost"))) == ["cheap", "middle", "fast"]
    assert order_of(by(PolicyConfig(rank="latency"))) == ["fast", "middle", "cheap"]
    listed = PolicyConfig(rank="listed", sellers=("middle", "fast"))
    assert order_of(by(listed)) == ["middle", "fast"]
    assert out(by(listed)) == {"cheap": ("not among the policy's sellers",)}


def test_near_prices_are_ties_that_speed_decides() -> None:
    assert order_of(by(PolicyConfig(rank="cost", within=Percent(10_000)))) == ["middle", "cheap", "fast"]


def test_equal_prices_are_ties_that_then_decides_without_any_share() -> None:
    level = [offer(name, everywhere(10_000), seconds=CHEAP_SECONDS, position=place) for place, name in enumerate("abc")]
    policy = PolicyConfig(rank="cost", then="listed", sellers=("c", "a", "b"))
    made = plan(catalogue(level, {"it": policy}), Question(request=request()), {})
    assert order_of(made) == ["c", "a", "b"]


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
def test_seconds_that_are_nearly_the_same_leave_the_decision_to_what_follows(
    first: tuple[float, float], second: tuple[float, float], expected: str, then: Rank
) -> None:
    """Equal prices, no list: then comes the share of deliveries that were as ordered, then the file's name."""
    level = [offer(name, everywhere(10_000), position=place) for place, name in enumerate("ab")]
    known = {
        (name, MODEL, cell): CellSignals(p50=p50, p90=90.0, conformance=share, deliveries=50)
        for name, (p50, share) in zip("ab", (first, second), strict=True)
        for cell in CELLS
    }
    made = plan(catalogue(level, {"it": PolicyConfig(rank="cost", then=then)}), Question(request=request()), known)
    assert order_of(made) == list(expected)


def test_a_policy_for_speed_compares_by_its_own_share_alone() -> None:
    known = signals(cheap=CellSignals(p50=5.1, p90=9.0))
    assert order_of(by(PolicyConfig(rank="latency"), known)) == ["fast", "cheap", "middle"]
    assert order_of(by(PolicyConfig(rank="latency", within=Percent(500), then="cost"), known))[0] == "cheap"


def test_weights_share_out_the_first_place() -> None:
    policy = PolicyConfig(rank="weighted", weights={"cheap": 70, "fast": 30, "middle": 0})
    firsts = Counter(order_of(by(policy, draw=(number + 0.5) / 1_000))[0] for number in range(1_000))
    assert firsts == {"cheap": 700, "fast": 300}
    assert out(by(policy)) == {"middle": ("has no weight in the policy",)}


def test_one_draw_decides_the_places_after_the_first_as_fairly() -> None:
    policy = PolicyConfig(rank="weighted", weights={"cheap": 2, "middle": 1, "fast": 1})
    seconds = Counter(tuple(order_of(by(policy, draw=(number + 0.5) / 1_200))) for number in range(1_200))
    # P(cheap, middle, fast) = 1/2 x 1/2, P(middle, cheap, fast) = 1/4 x 2/3, and so on.
    assert seconds["cheap", "middle", "fast"] == seconds["cheap", "fast", "middle"] == 300
    assert seconds["middle", "cheap", "fast"] == seconds["fast", "cheap", "middle"] == 200
    assert seconds["middle", "fast", "cheap"] == seconds["fast", "middle", "cheap"] == 100


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        (Limits(max_price=20_000), ["cheap", "middle"]),
        (Limits(max_price=19_999), ["cheap"]),
        (Limits(max_cost=10_000), ["cheap"]),
        (Limits(max_seconds=30.0), ["middle", "fast"]),
        (Limits(max_seconds=29.9), ["fast"]),
        (Limits(only=("fast", "middle")), ["middle", "fast"]),
        (Limits(ignore=("cheap",)), ["middle", "fast"]),
        (Limits(only=("fast",), ignore=("fast",)), []),
    ],
)
def test_a_caller_narrows_the_choice(limits: Limits, left: list[str]) -> None:
    made = by(PolicyConfig(rank="cost"), limits=limits)
    assert order_of(made) == left
    assert all(reasons for reasons in out(made).values())


def test_the_narrower_of_policy_team_and_caller_wins() -> None:
    policy = PolicyConfig(rank="cost", max_price=Usd(30_000), only=("cheap", "middle"))
    made = catalogue(ALL, {"it": policy}, teams={"t": TeamConfig(max_cost=Usd(45_000))})

    def left(limits: Limits, n: int = 1) -> list[str]:
        return order_of(plan(made, Question(request=request(n=n), team="t", limits=limits), {}))

    assert left(Limits()) == ["cheap", "middle"]
    assert left(Limits(max_price=99_000)) == ["cheap", "middle"]
    assert left(Limits(max_price=15_000)) == ["cheap"]
    assert left(Limits(only=("middle", "fast"))) == ["middle"]
    assert left(Limits(), n=3) == ["cheap"]
    assert left(Limits(max_cost=99_000_000), n=3) == ["cheap"]


def test_the_first_rule_that_holds_decides() -> None:
    rules = [
        RuleConfig(when=When(team="ads", resolution=(Resolution.TWO_K, Resolution.FOUR_K)), use="fast"),
        RuleConfig(when=When(n=(2, 3)), use="steady"),
        RuleConfig(when=When(metadata={"campaign": "x"}), use="fast"),
    ]
    policies = {
        "cheapest": PolicyConfig(rank="cost"),
        "fast": PolicyConfig(rank="latency"),
        "steady": PolicyConfig(rank="listed", sellers=("middle",)),
    }
    teams = {"ads": TeamConfig(), "others": TeamConfig()}
    made = catalogue(ALL, policies, rules, teams)

    def chosen(team: str | None, **changes: Any) -> tuple[str, int | None]:
        answer = plan(made, Question(request=request(**changes), team=team), {})
        return answer.policy, answer.rule

    two_k = target_of_shape("1:1", Resolution.TWO_K)
    assert chosen("ads", target=two_k) == ("fast", 1)
    assert chosen("ads", target=two_k, n=2) == ("fast", 1)
    assert chosen("others", target=two_k) == ("cheapest", 0)
    assert chosen(None, n=3) == ("steady", 2)
    assert chosen(None, metadata={"campaign": "x", "more": "y"}) == ("fast", 3)
    assert chosen(None, metadata={"campaign": "y"}) == ("cheapest", 0)


def test_a_caller_names_a_policy_if_his_team_allows_it() -> None:
    policies = {"cheapest": PolicyConfig(rank="cost"), "fast": PolicyConfig(rank="latency")}
    made = catalogue(ALL, policies, teams={"t": TeamConfig(policies=("fast",))})

    def ask(team: str | None, policy: str) -> Plan:
        return plan(made, Question(request=request(), team=team, policy=policy), {})

    answer = ask("t", "fast")
    assert (answer.policy, answer.rule) == ("fast", None)
    for team in ("t", None, "nobody"):
        with pytest.raises(RoutingError, match="may not choose policy 'cheapest'"):
            ask(team, "cheapest")
    with pytest.raises(RoutingError, match="did you mean 'fast'"):
        ask("t", "fats")


def signals(**by_seller: CellSignals) -> Any:
    return {(seller, MODEL, cell): known for seller, known in by_seller.items() for cell in CELLS}


def test_an_unhealthy_seller_comes_after_all_that_are_well_and_is_never_out() -> None:
    ill = CellSignals(healthy=False)
    made = by(PolicyConfig(rank="cost"), signals(cheap=ill))
    assert order_of(made) == ["middle", "fast", "cheap"]
    assert made.excluded == ()
    assert "unhealthy at present, so after all that are not" in made.ranked[-1].reasons
    assert order_of(by(PolicyConfig(rank="cost"), signals(cheap=ill, middle=ill, fast=ill))) == [
        "cheap",
        "middle",
        "fast",
    ]


def test_whoever_is_at_its_limit_is_still_asked_before_whoever_is_unhealthy() -> None:
    known = signals(cheap=CellSignals(healthy=False), middle=CellSignals(load=1.0))
    assert order_of(by(PolicyConfig(rank="cost"), known)) == ["fast", "middle", "cheap"]


def test_an_unhealthy_seller_is_no_measure_for_what_counts_as_equal() -> None:
    """The well ones are ranked as they would be without it, wherever its price lies."""
    policy = PolicyConfig(rank="cost", within=10_000_000, then="latency")
    alone = [seller for seller in order_of(by(policy, {})) if seller != "cheap"]
    assert order_of(by(policy, signals(cheap=CellSignals(healthy=False)))) == [*alone, "cheap"]


def test_a_cell_may_be_ill_while_its_neighbour_is_well() -> None:
    ill = {("cheap", MODEL, cell): CellSignals(healthy=False) for cell in CELLS if cell.quality is Quality.LOW}
    made = catalogue(ALL)
    assert order_of(plan(made, Question(request=request(quality=Quality.LOW)), ill)) == ["middle", "fast", "cheap"]
    assert order_of(plan(made, Question(request=request()), ill)) == ["cheap", "middle", "fast"]


def test_a_seller_at_his_limit_comes_after_all_that_are_not() -> None:
    made = by(PolicyConfig(rank="cost"), signals(cheap=CellSignals(load=1.0)))
    assert order_of(made) == ["middle", "fast", "cheap"]
    assert "at its limit, so after all that are not" in made.ranked[2].reasons


def test_what_was_measured_replaces_what_was_expected() -> None:
    made = by(PolicyConfig(rank="latency"), signals(cheap=CellSignals(p50=1.0, p90=3.0)))
    assert order_of(made)[0] == "cheap"
    assert made.ranked[0].seconds == 1.0
    narrowed = by(PolicyConfig(rank="cost", max_seconds=3.0), signals(cheap=CellSignals(p50=1.0, p90=3.0)))
    assert order_of(narrowed) == ["cheap"]
