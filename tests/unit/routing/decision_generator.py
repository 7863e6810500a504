"""Random configurations, requests and signals for the tests of decision records. A seed always gives the same."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from gateway.catalogue import Catalogue, Offer
from gateway.config.catalogue_builder import placeholder_secrets, resolve_files
from gateway.config.loader import load
from gateway.config.policy_schema import CanaryConfig, PolicyConfig, SplitConfig
from gateway.config.schema import RuleConditions, RuleConfig, TeamConfig
from gateway.config.value_types import ImageCount, Percent, Usd
from gateway.routing.canary import CanaryProgress
from gateway.routing.decision_record import PlannedRequest
from gateway.routing.plan import RoutingLimits, RoutingQuery, make_plan
from gateway.routing.routing_request import RequestedParams, RoutingRequest
from gateway.routing.signals import UNKNOWN_SIGNALS, CellSignals
from providers import ADAPTERS
from providers.image_sizes import RATIOS, SizeError, TargetSize
from providers.orders import Operation
from tests.harness.image_model import ALL_CELLS, FORMATS, QUALITIES, RESOLUTIONS, target_from_pixels, target_from_ratio
from tests.unit.routing.catalogue_factory import (
    EXACT_SIZES,
    FEW_RATIO_SIZES,
    MODEL,
    OTHER_MODEL,
    RATIO_SIZES,
    TOKEN_PRICES,
    UNVERIFIED_SIZES,
    make_account,
    make_catalogue,
    make_offer,
)

CONFIG = Path(__file__).parents[2] / "config"
TEAMS = ("design", "marketing", "search")
SELLER_COUNT = 12
NO_LIMIT = (None, None, None, None, None)
METADATA_VALUES = {"tier": ("gold", "silver", "bronze"), "project": ("ads", "web"), "note": ("a lighthouse",)}


class GeneratedRequest(Struct, frozen=True):
    """A request with its plan, and the catalogue that it was planned with."""

    catalogue: Catalogue
    planned: PlannedRequest


def load_catalogue_from_files() -> Catalogue:
    result = resolve_files(load(CONFIG), placeholder_secrets, ADAPTERS)
    assert result.catalogue is not None, result.problems
    return result.catalogue


def make_large_catalogue(seed: int) -> Catalogue:
    """Makes a catalogue of twelve unlike sellers, with every kind of policy, rules on every condition, and limits."""
    source = random.Random(seed)  # noqa: S311 - repeatable, not secret
    offers = [make_random_offer(source, position) for position in range(SELLER_COUNT)]
    names = [offer.seller.name for offer in offers]
    policies = make_policies(source, names)
    rules = [
        RuleConfig(when=RuleConditions(metadata={"tier": "gold"}), use="fast"),
        RuleConfig(when=RuleConditions(metadata={"tier": "silver", "project": "ads"}), use="split"),
        RuleConfig(when=RuleConditions(team=("marketing",), resolution=("4k",)), use="steady"),
        RuleConfig(when=RuleConditions(operation=(Operation.EDIT,), quality=("low",), n=(1,)), use="narrow"),
    ]
    teams = {
        "design": TeamConfig(policies=tuple(policies)),
        "marketing": TeamConfig(policies=("fast", "split"), max_price=Usd(110_000)),
        "search": TeamConfig(max_cost=Usd(1_000_000)),
    }
    return structs.replace(make_catalogue(offers, policies, rules, teams), hash=f"{seed:012x}")


def make_policies(source: random.Random, names: list[str]) -> dict[str, PolicyConfig]:
    return {
        "cheapest": PolicyConfig(rank="cost", within=Percent(500)),
        "fast": PolicyConfig(rank="latency", max_price=Usd(100_000), split=SplitConfig(over=3)),
        "steady": PolicyConfig(rank="listed", sellers=tuple(source.sample(names, 8))),
        "split": PolicyConfig(rank="weighted", weights={name: source.uniform(0, 9) for name in names}),
        "exact": PolicyConfig(rank="cost", fidelity="exact"),
        "punctual": PolicyConfig(
            rank="deadline",
            max_seconds=75.0,
            canary=CanaryConfig(seller=names[0], share=Percent(3_000), until=ImageCount(500)),
        ),
        "narrow": PolicyConfig(rank="cost", max_cost=Usd(900_000), max_seconds=90.0, only=tuple(names[:6])),
    }


def make_random_offer(source: random.Random, position: int) -> Offer:
    assumed = source.choice([None, None, *QUALITIES])
    return make_offer(
        f"seller-{position}",
        {cell: source.randrange(20_000, 120_000) for cell in ALL_CELLS if source.random() < 0.9},
        model=MODEL if position < SELLER_COUNT - 2 else OTHER_MODEL,
        position=position,
        sizing=source.choice([EXACT_SIZES, EXACT_SIZES, UNVERIFIED_SIZES, RATIO_SIZES, FEW_RATIO_SIZES]),
        images_per_order=source.randint(1, 10),
        selectable_qualities=frozenset() if assumed else frozenset(source.sample(QUALITIES, source.randint(2, 3))),
        assumed_quality=assumed,
        unverified_note=source.choice([None, "a belief"]),
        token_prices=source.choice([None, TOKEN_PRICES]),
        seconds=(p50 := source.uniform(5, 50), p50 * 2),
        account=make_account(None if source.random() < 0.1 else "s"),
        supports_mask=source.random() < 0.8,
        max_inputs=source.choice([1, 4, 16]),
    )


def generate_requests(catalogue: Catalogue, seed: int, count: int) -> Iterator[GeneratedRequest]:
    source = random.Random(seed)  # noqa: S311 - repeatable, not secret
    for _ in range(count):
        query = make_random_query(source, catalogue)
        signals = make_random_signals(source, catalogue)
        draw = source.random()
        canaries = make_random_canaries(draw)
        planned = PlannedRequest(
            query=query,
            signals=signals,
            draw=draw,
            plan=make_plan(catalogue, query, signals, draw, canaries),
            canaries=canaries,
            requested=RequestedParams(size="1024x1024", background="opaque"),
            largest_input_edge=source.randrange(4_000),
        )
        yield GeneratedRequest(catalogue, planned)


def make_random_canaries(draw: float) -> dict[str, CanaryProgress]:
    """Makes the progress of a canary from the draw, so that other random numbers stay the same."""
    images = round(draw * 900)
    progress = CanaryProgress(images=images, undelivered=images // 20, charged=images * 102, quoted=images * 100)
    return {} if draw < 0.2 else {"seller-0": progress, "seller-1": progress}


def make_random_query(source: random.Random, catalogue: Catalogue) -> RoutingQuery:
    team = source.choice(list(catalogue.teams))
    allowed_policies = catalogue.teams[team].policies
    sellers = list(catalogue.sellers)
    return RoutingQuery(
        request=make_random_request(source, catalogue),
        team=team,
        policy=source.choice([None, *allowed_policies]),
        limits=RoutingLimits(
            max_price=source.choice([*NO_LIMIT, source.randrange(20_000, 300_000)]),
            max_cost=source.choice([*NO_LIMIT, source.randrange(20_000, 2_000_000)]),
            max_seconds=source.choice([*NO_LIMIT, source.uniform(30, 120)]),
            only=source.choice([*NO_LIMIT, tuple(source.sample(sellers, len(sellers) // 2 + 1))]),
            ignore=source.choice([(), (), (source.choice(sellers),)]),
        ),
    )


def make_random_request(source: random.Random, catalogue: Catalogue) -> RoutingRequest:
    is_edit = source.random() < 0.3
    metadata = {name: source.choice(values) for name, values in METADATA_VALUES.items() if source.random() < 0.5}
    return RoutingRequest(
        operation=Operation.EDIT if is_edit else Operation.GENERATE,
        model=source.choice([*catalogue.models, MODEL, MODEL]),
        n=source.randint(1, 10),
        target=make_random_target(source),
        quality=source.choice(QUALITIES),
        output_format=source.choice(FORMATS),
        has_explicit_size=source.random() < 0.5,
        has_explicit_quality=source.random() < 0.5,
        prompt_bytes=source.randrange(96_000),
        input_count=source.choice([1, 1, 2, 5, 16]) if is_edit else 0,
        has_mask=is_edit and source.random() < 0.3,
        metadata=metadata,
    )


def make_random_target(source: random.Random) -> TargetSize:
    if source.random() < 0.2:
        return target_from_pixels(16 * source.randint(52, 90), 16 * source.randint(52, 90))
    while True:
        try:
            return target_from_ratio(source.choice(RATIOS), source.choice(RESOLUTIONS))
        except SizeError:
            continue


def make_random_signals(source: random.Random, catalogue: Catalogue) -> dict[Any, CellSignals]:
    """Makes signals for most cells, as the health tracker does: none for a cell without data."""
    return {
        (offer.seller.name, offer.model, cell): make_random_cell_signals(source)
        for offer in catalogue.iter_offers()
        for cell in source.sample(ALL_CELLS, 15)
    }


def make_random_cell_signals(source: random.Random) -> CellSignals:
    if source.random() < 0.2:
        return UNKNOWN_SIGNALS
    has_latency, has_deliveries = source.random() < 0.7, source.random() < 0.7
    return CellSignals(
        healthy=source.random() < 0.8,
        p50=source.uniform(1, 60) if has_latency else None,
        p90=source.uniform(60, 120) if has_latency else None,
        load=source.choice([0.0, 1 / 3, source.random(), 1.0, 1.5]),
        conformance=source.random() if has_deliveries else None,
        faithful=source.random() < 0.8,
        deliveries=source.randint(5, 500) if has_deliveries else 0,
    )
