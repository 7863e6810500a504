"""Catalogues made by hand or by chance, without any YAML."""

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from msgspec import structs

from gateway.catalogue import CELLS, Account, Catalogue, Cell, Model, Offer, Price, Seller
from gateway.config.blocks import Expected, PoliciesFile, PolicyConfig, RuleConfig, Sizing, TeamConfig, TokenPrices
from gateway.config.gateway_blocks import ReloadConfig
from gateway.config.values import Ratio, Secret, SizeText, Usd
from providers import ADAPTERS
from providers.orders import Format, ImageRequest, Operation, Quality
from providers.sizes import RATIOS, Resolution, target_of_shape

MODEL = "gpt-image-2"
OTHER_MODEL = "another"
EXACT = Sizing(pixels="exact")
UNVERIFIED = Sizing(pixels="unverified", presets={"square_hd": SizeText("1024x1024")})
BY_RATIO = Sizing(ratios=tuple(Ratio(ratio) for ratio in RATIOS), unsold=("1:1@4k",))
FEW_RATIOS = Sizing(ratios=(Ratio("1:1"), Ratio("16:9")), resolutions=(Resolution.ONE_K, Resolution.TWO_K))


def account(secret: str | None = "s") -> Account:  # noqa: S107 - no secret of anybody
    return Account("a", "https://a.example", Secret(secret) if secret else None, False, (), False)


def offer(name: str, prices: Mapping[Cell, int], **more: Any) -> Offer:
    """One that can do everything exactly, but for what is said otherwise."""
    sizing = more.pop("sizing", EXACT)
    seconds = more.pop("by_quality", None) or dict.fromkeys(Quality, more.pop("seconds", (10.0, 20.0)))
    plain: dict[str, Any] = {
        "seller": Seller(name, more.pop("account", account()), ADAPTERS["runflow_runs"]),
        "model": MODEL,
        "their_model": "their/model",
        "images_per_order": 4,
        "selectable": frozenset(Quality),
        "assumes": None,
        "sizings": dict.fromkeys(Operation, sizing),
        "formats": frozenset(Format),
        "unverified": None,
        "mask": True,
        "inputs": 16,
        "prices": {cell: Price(price, price, "a page", "2026-01-01") for cell, price in prices.items()},
        "seconds": {quality: Expected(p50=p50, p90=p90) for quality, (p50, p90) in seconds.items()},
    }
    return Offer(**(plain | more))


def everywhere(price: int) -> dict[Cell, int]:
    return dict.fromkeys(CELLS, price)


def catalogue(
    offers: Sequence[Offer],
    policies: Mapping[str, PolicyConfig] | None = None,
    rules: Sequence[RuleConfig] = (),
    teams: Mapping[str, TeamConfig] | None = None,
) -> Catalogue:
    policies = dict(policies or {"cheapest": PolicyConfig(rank="cost")})
    return Catalogue(
        hash="0123456789ab",
        models={name: Model(name, 1024, 1024, Quality.HIGH, Format.PNG, 10) for name in (MODEL, OTHER_MODEL)},
        aliases={"old-name": MODEL},
        accounts={one.seller.account.name: one.seller.account for one in offers},
        sellers={one.seller.name: one.seller for one in offers},
        offers={model: tuple(one for one in offers if one.model == model) for model in (MODEL, OTHER_MODEL)},
        policies=PoliciesFile(policies=policies, rules=tuple(rules), default=next(iter(policies))),
        teams=dict(teams or {"everyone": TeamConfig(policies=tuple(policies))}),
        reload=ReloadConfig(),
    )


# Few different values, so that ties and near-ties are the rule: 63,000 is exactly 5 % above 60,000.
PRICES = st.sampled_from([60_000, 60_000, 62_999, 63_000, 63_001, 100_000])
SECONDS = st.sampled_from([(10.0, 20.0), (10.0, 40.0), (15.0, 50.0)])
BY_TOKENS = TokenPrices(input_text=Usd(5_000_000), input_image=Usd(8_000_000), output=Usd(30_000_000))
MOSTLY = {"account": ["s"] * 9 + [None], "inputs": [16] * 8 + [1, 0], "mask": [True] * 4 + [False]}


@st.composite
def offers(draw: st.DrawFn, position: int) -> Offer:
    """Mostly able, mostly alike: what makes ranking hard."""
    holes = draw(st.sets(st.sampled_from(CELLS), max_size=3))
    prices = draw(st.lists(PRICES, min_size=len(CELLS), max_size=len(CELLS)))
    times = draw(st.lists(SECONDS, min_size=3, max_size=3))
    assumes = draw(st.sampled_from([None, None, *Quality]))
    return offer(
        f"seller-{position}",
        {cell: price for cell, price in zip(CELLS, prices, strict=True) if cell not in holes},
        position=position,
        sizing=draw(st.sampled_from([EXACT, EXACT, UNVERIFIED, BY_RATIO, FEW_RATIOS])),
        images_per_order=draw(st.integers(1, 10)),
        selectable=frozenset() if assumes else frozenset(Quality) - draw(st.sets(st.sampled_from(Quality), max_size=1)),
        assumes=assumes,
        unverified=draw(st.sampled_from([None, None, "a belief"])),
        tokens=draw(st.sampled_from([None, None, BY_TOKENS])),
        by_quality=dict(zip(Quality, times, strict=True)),
        **{name: draw(st.sampled_from(values)) for name, values in MOSTLY.items() if name != "account"},
        account=account(draw(st.sampled_from(MOSTLY["account"]))),
    )


@st.composite
def many_offers(draw: st.DrawFn) -> list[Offer]:
    return [draw(offers(position)) for position in range(draw(st.integers(0, 5)))]


def request(**changes: Any) -> ImageRequest:
    plain = ImageRequest(
        operation=Operation.GENERATE,
        model=MODEL,
        prompt="",
        n=1,
        target=target_of_shape("1:1", Resolution.ONE_K),
        quality=Quality.HIGH,
        output_format=Format.PNG,
    )
    return structs.replace(plain, **changes)
