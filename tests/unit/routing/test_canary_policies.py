"""Canaries: a new seller gets a share of a policy's requests until it has proved itself."""

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.config.policy_schema import CanaryConfig, PolicyConfig
from gateway.config.value_types import ImageCount, Percent
from gateway.engine.canary_board import CanaryBoard
from gateway.engine.canary_events import CanaryPassed
from gateway.events import Event
from gateway.jobs.transition_tables import LedgerLine
from gateway.routing.canary import CanaryProgress
from gateway.routing.decision_record import (
    PlannedRequest,
    decode_decision_record,
    encode_decision_record,
    make_decision_record,
    replay_plan,
)
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from gateway.routing.plan_json import plan_to_json
from gateway.routing.signals import CellSignals, Signals
from gateway.store.ledger_totals import LedgerAccount
from gateway.store.statistics import LifetimeTotal
from providers.orders import Cell, Operation
from tests.unit.routing.catalogue_factory import MODEL, make_catalogue, make_offer, make_request, make_uniform_prices

OFFERS = [
    make_offer("cheap", make_uniform_prices(10_000), position=0),
    make_offer("middle", make_uniform_prices(20_000), position=1),
    make_offer("new", make_uniform_prices(15_000), position=2),
]
POLICY = PolicyConfig(rank="cost", canary=CanaryConfig(seller="new", share=Percent(200), until=ImageCount(500)))
CATALOGUE = make_catalogue(OFFERS, {"it": POLICY})
CELL = Cell(Operation.GENERATE, "1k", "high")
QUERY = RoutingQuery(request=make_request())
DRAWS = [number / 20_000 for number in range(20_000)]
PROVEN = CanaryProgress(images=500, charged=500 * 15_000, quoted=500 * 15_000)
# As many deliveries as conformance needs.
CONFORMING = CellSignals(conformance=1.0, deliveries=5)
CONFORMING_CELL = {("new", MODEL, CELL): CONFORMING}


def plan_canary(draw: float, progress: CanaryProgress | None = None, signals: Signals | None = None) -> Plan:
    return make_plan(CATALOGUE, QUERY, signals or {}, draw, {"new": progress} if progress else {})


def list_sellers(plan: Plan) -> list[str]:
    return [ranked.candidate.seller for ranked in plan.ranked]


def is_chosen(draw: float) -> bool:
    return list_sellers(plan_canary(draw))[0] == "new"


CHOSEN_DRAW = next(draw for draw in DRAWS if is_chosen(draw))
OTHER_DRAW = next(draw for draw in DRAWS if not is_chosen(draw))


def test_canary_is_first_for_its_share_and_nothing_for_the_others() -> None:
    chosen_draws = [draw for draw in DRAWS if is_chosen(draw)]
    assert len(chosen_draws) / len(DRAWS) == pytest.approx(0.02, abs=0.003)
    for draw in chosen_draws:
        assert list_sellers(plan_canary(draw)) == ["new", "cheap", "middle"]
    plan = plan_canary(OTHER_DRAW, CanaryProgress(images=120), CONFORMING_CELL)
    assert list_sellers(plan) == ["cheap", "middle"]
    (excluded,) = plan.excluded
    assert (excluded.seller, excluded.reasons) == (
        "new",
        ("canary for 2% of the requests: 120 of 500 images delivered",),
    )
    assert plan_canary(CHOSEN_DRAW).ranked[0].reasons[1] == (
        "canary for 2% of the requests: 0 of 500 images delivered, 0 of 5 deliveries of this cell as ordered"
    )


def test_proven_canary_is_ranked_like_the_others() -> None:
    for draw in (CHOSEN_DRAW, OTHER_DRAW):
        plan = plan_canary(draw, PROVEN, CONFORMING_CELL)
        assert list_sellers(plan) == ["cheap", "new", "middle"]
        assert plan.ranked[1].reasons == ("number 2 by cost",)


@pytest.mark.parametrize(
    ("progress", "signals", "reason"),
    [
        ({"images": 499}, {}, "499 of 500 images delivered"),
        ({"undelivered": 56}, {}, "56 of 556 ordered images not delivered"),
        ({"charged": 7_950_000}, {}, "charges 6% more than its configured prices"),
        ({}, {"healthy": False}, "unhealthy"),
        ({}, {"faithful": False, "conformance": 0.5, "deliveries": 20}, "delivered as ordered 10 of 20"),
        ({}, {"conformance": 0.5, "deliveries": 20}, "delivered as ordered 10 of 20"),
        ({}, {"conformance": None, "deliveries": 0}, "0 of 5 deliveries of this cell as ordered"),
        ({}, {"conformance": 2 / 3, "deliveries": 6}, "4 of 5 deliveries of this cell as ordered"),
    ],
)
def test_canary_stays_one_until_each_condition_holds(
    progress: dict[str, Any], signals: dict[str, Any], reason: str
) -> None:
    values = {"images": 500, "charged": 7_500_000, "quoted": 7_500_000} | progress
    cell_signals = replace(CONFORMING, **signals)
    plan = plan_canary(OTHER_DRAW, CanaryProgress(**values), {("new", MODEL, CELL): cell_signals})
    assert list_sellers(plan) == ["cheap", "middle"]
    assert plan.excluded[0].reasons == (f"canary for 2% of the requests: {reason}",)


@pytest.mark.parametrize("signals", [{"healthy": False}, {"faithful": False}, {"load": 1.0}])
def test_canary_that_is_ranked_behind_others_is_not_moved_to_the_front(signals: dict[str, Any]) -> None:
    plan = plan_canary(CHOSEN_DRAW, None, {("new", MODEL, CELL): CellSignals(**signals)})
    assert list_sellers(plan) == ["cheap", "middle", "new"]


def test_plan_with_a_canary_is_made_again_from_its_record() -> None:
    for draw in (CHOSEN_DRAW, OTHER_DRAW):
        for progress in (CanaryProgress(images=120), PROVEN):
            canaries = {"new": progress, "cheap": PROVEN}
            plan = plan_canary(draw, progress, CONFORMING_CELL)
            planned = PlannedRequest(query=QUERY, signals=CONFORMING_CELL, draw=draw, plan=plan, canaries=canaries)
            record = decode_decision_record(encode_decision_record(make_decision_record(CATALOGUE, planned, 1.0)))
            assert record.canaries == {"new": progress}
            assert plan_to_json(CATALOGUE, replay_plan(record, CATALOGUE)) == plan_to_json(CATALOGUE, plan)


def make_total(team: str, line: LedgerLine, images: int, amount: int, seller: str = "new") -> LifetimeTotal:
    account = LedgerAccount(team=team, seller=seller, model=MODEL, cell=CELL, line=line)
    return LifetimeTotal(account=account, charged=amount, charged_images=images)


def test_progress_is_the_sum_of_the_ledger_of_all_teams() -> None:
    board, events = CanaryBoard(), list[Event]()
    totals = [
        make_total("design", LedgerLine.CAPTURE, 300, 300 * 15_000),
        make_total("search", LedgerLine.CAPTURE, 199, 199 * 15_000),
        make_total("search", LedgerLine.ORPHAN, 2, 30_000),
        make_total("search", LedgerLine.CAPTURE, 900, 900 * 10_000, "cheap"),
    ]
    board.update(CATALOGUE, totals, events.append)
    assert board.progress == {
        "new": CanaryProgress(images=499, undelivered=2, charged=499 * 15_000, quoted=499 * 15_000)
    }
    totals.append(make_total("other", LedgerLine.CAPTURE, 1, 15_000))
    for _ in range(2):
        board.update(CATALOGUE, totals, events.append)
    assert events == [CanaryPassed(policy="it", seller="new", images=500)]
    board.update(make_catalogue(OFFERS), totals, events.append)
    assert board.progress == {}
