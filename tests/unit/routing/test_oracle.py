"""Every cell, count and policy over catalogues made by chance: the router and brute force name the same winner."""

import math
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.catalogue import CELLS, Cell, Offer
from gateway.config.blocks import PolicyConfig, TeamConfig
from gateway.config.values import Percent, Usd
from gateway.routing.plan import Question, plan
from gateway.routing.signals import CellSignals
from providers.orders import Format, ImageRequest, Inline, Operation
from providers.sizes import RATIOS, target_of_shape
from tests.unit.routing import oracle
from tests.unit.routing.catalogues import MODEL, OTHER_MODEL, catalogue, many_offers

AN_INPUT = Inline(b"", "image/png", "")
NAMES = [f"seller-{position}" for position in range(5)]
COUNTS = range(1, 11)
PROMPTS = st.sampled_from(["", "a", "ä lighthouse", "x" * 2_400, "灯台" * 5_000])


def policies_over(sellers: list[str]) -> dict[str, PolicyConfig]:
    """Every rank, with every option that changes who wins."""
    listed = tuple(reversed(sellers))
    return {
        "cheapest": PolicyConfig(rank="cost"),
        "cheapest-ish": PolicyConfig(rank="cost", within=Percent(500)),
        "cheapest-listed": PolicyConfig(rank="cost", within=Percent(10_000), then="listed", sellers=listed),
        "fast": PolicyConfig(rank="latency"),
        "fast-ish": PolicyConfig(rank="latency", within=Percent(5_000), then="cost"),
        "steady": PolicyConfig(rank="listed", sellers=listed),
        "exact": PolicyConfig(rank="cost", fidelity="exact"),
        "cheap or nothing": PolicyConfig(rank="latency", max_price=Usd(62_999)),
        "thrifty": PolicyConfig(rank="latency", max_cost=Usd(100_000), ignore=("seller-1",)),
        "patient": PolicyConfig(rank="cost", max_seconds=40.0, only=("seller-0", "seller-2", "seller-3")),
    }


SIGNALS = st.builds(
    CellSignals,
    healthy=st.sampled_from([True, True, False]),
    p50=st.sampled_from([None, 10.0, 10.75, 11.25, 12.0, 15.0]),
    p90=st.sampled_from([None, 15.0, 40.0, 50.0]),
    load=st.sampled_from([0.0, 0.5, 1.0]),
    conformance=st.sampled_from([None, 0.5, 0.9, 1.0]),
    faithful=st.sampled_from([True, True, False]),
)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Offer], dict[Any, CellSignals]]:
    offers = draw(many_offers())
    keys = st.tuples(st.sampled_from(NAMES), st.just(MODEL), st.sampled_from(CELLS))
    return offers, draw(st.dictionaries(keys, SIGNALS, max_size=30))


TEAMS = st.builds(
    TeamConfig,
    policies=st.just(()),
    max_price=st.sampled_from([None, None, Usd(62_999), Usd(63_000)]),
    max_cost=st.sampled_from([None, None, Usd(200_000)]),
)


def requests(cell: Cell, wishes: Any) -> list[ImageRequest]:
    ratio, pixels_asked, quality_asked, inputs, mask, prompt = wishes
    is_edit = cell.operation is Operation.EDIT
    return [
        ImageRequest(
            operation=cell.operation,
            model=MODEL,
            prompt=prompt,
            n=n,
            target=target_of_shape(ratio, cell.resolution),
            pixels_asked=pixels_asked,
            quality=cell.quality,
            quality_asked=quality_asked,
            output_format=Format.PNG,
            sources=(AN_INPUT,) * inputs if is_edit else (),
            mask=AN_INPUT if mask and is_edit else None,
        )
        for n in COUNTS
    ]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    world=worlds(),
    team=TEAMS,
    wishes=st.tuples(st.sampled_from(RATIOS), st.booleans(), st.booleans(), st.integers(1, 3), st.booleans(), PROMPTS),
)
def test_the_router_and_brute_force_agree_on_who_wins_and_at_what_price(
    world: Any, team: TeamConfig, wishes: Any
) -> None:
    offers, signals = world
    policies = policies_over([one.seller.name for one in offers])
    team = structs.replace(team, policies=tuple(policies))
    stranger = structs.replace(offers[0], model=OTHER_MODEL) if offers else None
    made = catalogue([*offers, *([stranger] if stranger else [])], policies, teams={"everyone": team})
    for cell in CELLS:
        for request in requests(cell, wishes):
            found = oracle.bids(offers, request, signals)
            for name, policy in policies.items():
                answer = plan(made, Question(request=request, team="everyone", policy=name), signals)
                expected = oracle.winner(found, policy, team)
                assert len(answer.ranked) + len(answer.excluded) == len(offers)
                if expected is None:
                    assert answer.ranked == ()
                    continue
                first = answer.ranked[0]
                assert (first.fit.offer.seller.name, first.quote.total) == (
                    expected.offer.seller.name,
                    expected.total,
                ), (name, request)
                assert first.quote.hold >= first.quote.total
                assert first.quote.orders == math.ceil(Fraction(request.n, first.fit.offer.images_per_order))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds(), n=st.sampled_from(COUNTS), draw=st.floats(0, 1, exclude_max=True))
def test_every_plan_is_a_complete_account_and_repeatable(world: Any, n: int, draw: float) -> None:
    """Each offer is in or out once, out for a stated reason; the same question has the same answer."""
    offers, signals = world
    weights = {one.seller.name: float(place) for place, one in enumerate(offers)}
    policies = {"split": PolicyConfig(rank="weighted", weights=weights), "cheapest": PolicyConfig(rank="cost")}
    made = catalogue(offers, policies)
    for cell in CELLS:
        request = requests(cell, ("1:1", False, False, 1, False, ""))[n - 1]
        for name in policies:
            question = Question(request=request, team="everyone", policy=name)
            answer = plan(made, question, signals, draw)
            names = [one.fit.offer.seller.name for one in answer.ranked] + [one.seller for one in answer.excluded]
            assert sorted(names) == sorted(one.seller.name for one in offers)
            assert all(one.reasons and all(one.reasons) for one in answer.excluded)
            assert answer == plan(made, question, signals, draw)
            assert answer.config == made.hash
