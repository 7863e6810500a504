"""Policies that split requests for many images over several sellers."""

import pytest

from gateway.config.policy_schema import PolicyConfig, SplitConfig
from gateway.routing.plan import Plan, RoutingQuery, make_plan
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
OVER_THREE = SplitConfig(over=3)
UNHEALTHY, UNFAITHFUL, BUSY = CellSignals(healthy=False), CellSignals(faithful=False), CellSignals(load=1.0)


def plan_split(
    n: int, split: SplitConfig = OVER_THREE, signals: Signals | None = None, max_seconds: float | None = None
) -> Plan:
    policy = PolicyConfig(rank="deadline" if max_seconds else "cost", split=split, max_seconds=max_seconds)
    return make_plan(make_catalogue(OFFERS, {"it": policy}), RoutingQuery(request=make_request(n=n)), signals or {})


@pytest.mark.parametrize(
    ("n", "split", "counts"),
    [
        (3, SplitConfig(over=3), ()),
        (4, SplitConfig(over=3), (2, 2)),
        (5, SplitConfig(over=3), (3, 2)),
        (10, SplitConfig(over=3, sellers=3), (4, 3, 3)),
        (2, SplitConfig(over=1, sellers=3), (1, 1)),
        (6, SplitConfig(over=3, sellers=8), (2, 2, 2)),
    ],
)
def test_images_over_the_limit_are_split(n: int, split: SplitConfig, counts: tuple[int, ...]) -> None:
    plan = plan_split(n, split)
    assert plan.split_counts == counts
    assert plan_to_json(make_catalogue(OFFERS), plan)["split"] == list(counts)
    assert [ranked.candidate.seller for ranked in plan.ranked] == ["cheap", "middle", "fast"]


@pytest.mark.parametrize("signals", [UNHEALTHY, UNFAITHFUL, BUSY])
def test_seller_that_is_ranked_behind_gets_no_part(signals: CellSignals) -> None:
    assert plan_split(4, SplitConfig(over=3, sellers=3), {("fast", MODEL, CELL): signals}).split_counts == (2, 2)
    others = {(seller, MODEL, CELL): signals for seller in ("cheap", "fast")}
    assert plan_split(4, SplitConfig(over=3, sellers=3), others).split_counts == ()


def test_seller_that_is_late_gets_no_part_beside_one_in_time() -> None:
    assert plan_split(4, max_seconds=10.0).split_counts == ()
    assert plan_split(4, max_seconds=30.0).split_counts == (2, 2)
    assert plan_split(4, max_seconds=1.0).split_counts == (2, 2)
