"""For random catalogues, every cell, count and policy: the router and the brute-force router choose the same winner."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.catalogue import Offer
from gateway.config.policy_schema import PolicyConfig
from gateway.config.schema import TeamConfig
from gateway.config.value_types import Percent, Usd
from gateway.routing.plan import RoutingQuery, make_plan
from gateway.routing.routing_request import RoutingRequest
from gateway.routing.signals import CellSignals
from providers.image_sizes import RATIOS
from providers.orders import Cell, Format, Operation
from tests.harness.image_model import ALL_CELLS, target_from_ratio
from tests.unit.routing import brute_force_router
from tests.unit.routing.catalogue_factory import MODEL, OTHER_MODEL, make_catalogue, offer_lists

SELLER_NAMES = [f"seller-{position}" for position in range(5)]
IMAGE_COUNTS = range(1, 11)
PROMPT_LENGTHS = st.sampled_from([0, 1, 12, 2_400, 30_000])


def make_policies(sellers: list[str]) -> dict[str, PolicyConfig]:
    """Returns every rank with every option that changes the winner."""
    reversed_sellers = tuple(reversed(sellers))
    return {
        "cheapest": PolicyConfig(rank="cost"),
        "cheapest-ish": PolicyConfig(rank="cost", within=Percent(500)),
        "cheapest-listed": PolicyConfig(rank="cost", within=Percent(10_000), then="listed", sellers=reversed_sellers),
        "fast": PolicyConfig(rank="latency"),
        "fast-ish": PolicyConfig(rank="latency", within=Percent(5_000), then="cost"),
        "steady": PolicyConfig(rank="listed", sellers=reversed_sellers),
        "exact": PolicyConfig(rank="cost", fidelity="exact"),
        "cheap or nothing": PolicyConfig(rank="latency", max_price=Usd(62_999)),
        "thrifty": PolicyConfig(rank="latency", max_cost=Usd(100_000), ignore=("seller-1",)),
        "patient": PolicyConfig(rank="cost", max_seconds=40.0, only=("seller-0", "seller-2", "seller-3")),
        "punctual": PolicyConfig(rank="deadline", max_seconds=40.0),
        "punctual-ish": PolicyConfig(rank="deadline", max_seconds=15.0, within=Percent(500)),
        "local": PolicyConfig(rank="cost", regions=("eu", "nowhere")),
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
def offers_and_signals_sets(draw: st.DrawFn) -> tuple[list[Offer], dict[Any, CellSignals]]:
    offers = draw(offer_lists())
    keys = st.tuples(st.sampled_from(SELLER_NAMES), st.just(MODEL), st.sampled_from(ALL_CELLS))
    return offers, draw(st.dictionaries(keys, SIGNALS, max_size=30))


TEAMS = st.builds(
    TeamConfig,
    policies=st.just(()),
    max_price=st.sampled_from([None, None, Usd(62_999), Usd(63_000)]),
    max_cost=st.sampled_from([None, None, Usd(200_000)]),
    regions=st.sampled_from([None, None, ("eu",), ("na", "eu")]),
)


def make_requests(cell: Cell, params: Any) -> list[RoutingRequest]:
    ratio, has_explicit_size, has_explicit_quality, inputs, mask, prompt_bytes = params
    is_edit = cell.operation is Operation.EDIT
    return [
        RoutingRequest(
            operation=cell.operation,
            model=MODEL,
            prompt_bytes=prompt_bytes,
            n=n,
            target=target_from_ratio(ratio, cell.resolution),
            has_explicit_size=has_explicit_size,
            quality=cell.quality,
            has_explicit_quality=has_explicit_quality,
            output_format=Format.PNG,
            input_count=inputs if is_edit else 0,
            has_mask=mask and is_edit,
        )
        for n in IMAGE_COUNTS
    ]


given_offers_and_params = given(
    offers_and_signals=offers_and_signals_sets(),
    team=TEAMS,
    params=st.tuples(
        st.sampled_from(RATIOS), st.booleans(), st.booleans(), st.integers(1, 3), st.booleans(), PROMPT_LENGTHS
    ),
)


def check_winner_and_price(offers_and_signals: Any, team: TeamConfig, params: Any) -> None:
    offers, signals = offers_and_signals
    policies = make_policies([offer.seller.name for offer in offers])
    team = structs.replace(team, policies=tuple(policies))
    other_model_offer = structs.replace(offers[0], model=OTHER_MODEL) if offers else None
    catalogue = make_catalogue(
        [*offers, *([other_model_offer] if other_model_offer else [])], policies, teams={"everyone": team}
    )
    for cell in ALL_CELLS:
        for request in make_requests(cell, params):
            bids = brute_force_router.list_bids(offers, request, signals)
            for name, policy in policies.items():
                plan_result = make_plan(catalogue, RoutingQuery(request=request, team="everyone", policy=name), signals)
                expected = brute_force_router.find_winner(bids, policy, team)
                assert len(plan_result.ranked) + len(plan_result.excluded) == len(offers)
                if expected is None:
                    assert plan_result.ranked == ()
                    continue
                first = plan_result.ranked[0]
                assert (first.fit.offer.seller.name, first.quote.total) == (
                    expected.offer.seller.name,
                    expected.total,
                ), (name, request)
                assert first.quote.ceiling >= first.quote.total
                assert first.quote.orders == math.ceil(Fraction(request.n, first.fit.offer.images_per_order))


# One example compares thousands of plans.
@pytest.mark.parametrize("example_count", [8, pytest.param(80, marks=pytest.mark.thorough)])
def test_router_and_brute_force_agree_on_winner_and_price(example_count: int) -> None:
    # hypothesis takes settings only once for each decorated function.
    check = given_offers_and_params(check_winner_and_price)
    settings(max_examples=example_count, suppress_health_check=list(HealthCheck))(check)()


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    offers_and_signals=offers_and_signals_sets(),
    n=st.sampled_from(IMAGE_COUNTS),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_plan_accounts_for_every_offer_and_is_repeatable(offers_and_signals: Any, n: int, draw: float) -> None:
    """Each offer is ranked or excluded once, with reasons; the same query gives the same plan."""
    offers, signals = offers_and_signals
    weights = {offer.seller.name: float(position) for position, offer in enumerate(offers)}
    policies = {"split": PolicyConfig(rank="weighted", weights=weights), "cheapest": PolicyConfig(rank="cost")}
    catalogue = make_catalogue(offers, policies)
    for cell in ALL_CELLS:
        request = make_requests(cell, ("1:1", False, False, 1, False, 0))[n - 1]
        for name in policies:
            query = RoutingQuery(request=request, team="everyone", policy=name)
            plan_result = make_plan(catalogue, query, signals, draw)
            names = [offer.fit.offer.seller.name for offer in plan_result.ranked] + [
                offer.seller for offer in plan_result.excluded
            ]
            assert sorted(names) == sorted(offer.seller.name for offer in offers)
            assert all(offer.reasons and all(offer.reasons) for offer in plan_result.excluded)
            assert plan_result == make_plan(catalogue, query, signals, draw)
            assert plan_result.config_hash == catalogue.hash
