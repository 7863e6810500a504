"""Catalogues for tests, made directly or at random, without YAML."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from msgspec import structs

from gateway.catalogue import Catalogue, Offer, Price, Seller, SellerAccount
from gateway.config.offer_schema import ExpectedLatency, SizeOptions, TokenPrices
from gateway.config.policy_schema import PolicyConfig
from gateway.config.schema import PoliciesFile, ReloadConfig, RuleConfig, TeamConfig
from gateway.config.value_types import Ratio, Secret, SizeValue, Usd
from gateway.routing.routing_request import RoutingRequest
from providers import ADAPTERS
from providers.image_sizes import RATIOS
from providers.orders import Cell, Format, Operation
from tests.harness.image_model import ALL_CELLS, FORMATS, QUALITIES, make_model, target_from_ratio

MODEL = "gpt-image-2"
OTHER_MODEL = "another"
EXACT_SIZES = SizeOptions(pixels="exact")
UNVERIFIED_SIZES = SizeOptions(pixels="unverified", presets={"square_hd": SizeValue("1024x1024")})
RATIO_SIZES = SizeOptions(ratios=tuple(Ratio(ratio) for ratio in RATIOS), unsold=("1:1@4k",))
FEW_RATIO_SIZES = SizeOptions(ratios=(Ratio("1:1"), Ratio("16:9")), resolutions=("1k", "2k"))


def make_account(secret: str | None = "s", region: str | None = None) -> SellerAccount:  # noqa: S107  not a real secret
    return SellerAccount("a", "https://a.example", Secret(secret) if secret else None, False, (), False, region=region)


def make_offer(name: str, prices: Mapping[Cell, int], **changes: Any) -> Offer:
    """Returns an offer that can fulfil every request exactly, with changes."""
    sizing = changes.pop("sizing", EXACT_SIZES)
    seconds = changes.pop("by_quality", None) or dict.fromkeys(QUALITIES, changes.pop("seconds", (10.0, 20.0)))
    defaults: dict[str, Any] = {
        "seller": Seller(name, changes.pop("account", make_account()), ADAPTERS["runflow_runs"]),
        "model": MODEL,
        "remote_model": "their/model",
        "images_per_order": 4,
        "selectable_qualities": frozenset(QUALITIES),
        "assumed_quality": None,
        "size_options": dict.fromkeys(Operation, sizing),
        "formats": frozenset(FORMATS),
        "unverified_note": None,
        "supports_mask": True,
        "max_inputs": 16,
        "prices": {cell: Price(price, price, "a page", "2026-01-01") for cell, price in prices.items()},
        "expected_latency": {quality: ExpectedLatency(p50=p50, p90=p90) for quality, (p50, p90) in seconds.items()},
    }
    return Offer(**(defaults | changes))


def make_uniform_prices(price: int) -> dict[Cell, int]:
    return dict.fromkeys(ALL_CELLS, price)


def make_catalogue(
    offers: Sequence[Offer],
    policies: Mapping[str, PolicyConfig] | None = None,
    rules: Sequence[RuleConfig] = (),
    teams: Mapping[str, TeamConfig] | None = None,
) -> Catalogue:
    policies = dict(policies or {"cheapest": PolicyConfig(rank="cost")})
    return Catalogue(
        hash="0123456789ab",
        models={name: make_model(name) for name in (MODEL, OTHER_MODEL)},
        aliases={"old-name": MODEL},
        accounts={offer.seller.account.name: offer.seller.account for offer in offers},
        sellers={offer.seller.name: offer.seller for offer in offers},
        offers={model: tuple(offer for offer in offers if offer.model == model) for model in (MODEL, OTHER_MODEL)},
        policies=PoliciesFile(policies=policies, rules=tuple(rules), default=next(iter(policies))),
        teams=dict(teams or {"everyone": TeamConfig(policies=tuple(policies))}),
        reload=ReloadConfig(),
    )


# Few different values, so that ties are frequent: 63,000 is exactly 5 % above 60,000.
PRICES = st.sampled_from([60_000, 60_000, 62_999, 63_000, 63_001, 100_000])
LATENCIES = st.sampled_from([(10.0, 20.0), (10.0, 40.0), (15.0, 50.0)])
TOKEN_PRICES = TokenPrices(input_text=Usd(5_000_000), input_image=Usd(8_000_000), output=Usd(30_000_000))
COMMON_VALUES = {"account": ["s"] * 9 + [None], "max_inputs": [16] * 8 + [1, 0], "supports_mask": [True] * 4 + [False]}


@st.composite
def offer_strategy(draw: st.DrawFn, position: int) -> Offer:
    """Mostly capable and similar offers, which are hard to rank."""
    unsold_cells = draw(st.sets(st.sampled_from(ALL_CELLS), max_size=3))
    prices = draw(st.lists(PRICES, min_size=len(ALL_CELLS), max_size=len(ALL_CELLS)))
    latencies = draw(st.lists(LATENCIES, min_size=3, max_size=3))
    assumes = draw(st.sampled_from([None, None, *QUALITIES]))
    return make_offer(
        f"seller-{position}",
        {cell: price for cell, price in zip(ALL_CELLS, prices, strict=True) if cell not in unsold_cells},
        position=position,
        sizing=draw(st.sampled_from([EXACT_SIZES, EXACT_SIZES, UNVERIFIED_SIZES, RATIO_SIZES, FEW_RATIO_SIZES])),
        images_per_order=draw(st.integers(1, 10)),
        selectable_qualities=frozenset()
        if assumes
        else frozenset(QUALITIES) - draw(st.sets(st.sampled_from(QUALITIES), max_size=1)),
        assumed_quality=assumes,
        unverified_note=draw(st.sampled_from([None, None, "a belief"])),
        token_prices=draw(st.sampled_from([None, None, TOKEN_PRICES])),
        by_quality=dict(zip(QUALITIES, latencies, strict=True)),
        **{name: draw(st.sampled_from(values)) for name, values in COMMON_VALUES.items() if name != "account"},
        account=make_account(
            draw(st.sampled_from(COMMON_VALUES["account"])), draw(st.sampled_from([None, "eu", "na", "eu"]))
        ),
    )


@st.composite
def offer_lists(draw: st.DrawFn) -> list[Offer]:
    return [draw(offer_strategy(position)) for position in range(draw(st.integers(0, 5)))]


def make_request(**changes: Any) -> RoutingRequest:
    default_request = RoutingRequest(
        operation=Operation.GENERATE,
        model=MODEL,
        n=1,
        target=target_from_ratio("1:1", "1k"),
        quality="high",
        output_format=Format.PNG,
    )
    return structs.replace(default_request, **changes)
