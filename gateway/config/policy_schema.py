"""Schema of the policies of `policies.yaml`: how sellers are ranked, limits, failover and split requests."""

from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from gateway.config.schema_base import ConfigStruct, NonEmptyText, PositiveSeconds, option_help
from gateway.config.value_types import ImageCount, Percent, Usd

Rank = Literal["cost", "latency", "deadline", "listed", "weighted"]
Regions = Annotated[tuple[NonEmptyText, ...], Meta(min_length=1)]


class FailoverConfig(ConfigStruct, frozen=True, kw_only=True):
    """Maximum attempts per image, and whether images are ordered again if the first order may have been charged."""

    attempts: Annotated[int, Meta(ge=1, le=10, description="Orders tried per image, 1 to 10. Default 3.")] = 3
    on_unknown: Annotated[
        Literal["fail", "reorder"],
        option_help("'reorder': order again although the first order may have been charged. Default fail."),
    ] = "fail"


class SplitConfig(ConfigStruct, frozen=True, kw_only=True):
    """Requests for many images are ordered in parts, at several sellers at once."""

    over: Annotated[int, Meta(ge=1, le=100, description="Requests for more images than this are split, at least 1.")]
    sellers: Annotated[int, Meta(ge=2, le=8, description="The best sellers that get a part each. Default 2.")] = 2


class CanaryConfig(ConfigStruct, frozen=True, kw_only=True):
    """A new seller that gets a share of the policy's requests, and no other, until it has proved itself."""

    seller: Annotated[NonEmptyText, option_help("The new seller, which the policy must admit.")]
    share: Annotated[Percent, option_help("Share of the requests that are ordered at it first, like 2%.")]
    until: Annotated[
        ImageCount, option_help("Images that it must have delivered, and charged as configured, like 500 images.")
    ]


class PolicyConfig(ConfigStruct, frozen=True, kw_only=True):
    """A policy: how sellers are ranked, and which limits exclude sellers."""

    EXTRA_CONSTRAINTS: ClassVar[dict[str, Any]] = {"properties": {"then": {"enum": ["cost", "latency", "listed"]}}}

    rank: Annotated[
        Rank,
        option_help(
            "Ranks by quote (cost), expected time (latency), quote of the sellers that are ready within 'max_seconds' "
            "(deadline), order of 'sellers' (listed) or random (weighted)."
        ),
    ]
    sellers: Annotated[
        tuple[NonEmptyText, ...] | None,
        option_help("Only these sellers; for rank 'listed' in this order. Default all."),
    ] = None
    weights: Annotated[
        dict[NonEmptyText, Annotated[float, Meta(ge=0, le=1_000_000)]] | None,
        option_help("Shares of requests by seller, for rank 'weighted' only."),
    ] = None
    within: Annotated[
        Percent,
        option_help(
            "Sellers this close to the best tie with it, like 5%. Default 0%; for cost, latency and deadline only."
        ),
    ] = Percent(0)
    then: Annotated[Rank, option_help("How ties are ordered. Default latency.")] = "latency"
    fidelity: Annotated[
        Literal["nearest", "exact"], option_help("'exact' excludes sellers that need a substitution. Default nearest.")
    ] = "nearest"
    failover: Annotated[FailoverConfig, option_help("What happens if an order fails.")] = FailoverConfig()
    split: Annotated[
        SplitConfig | None, option_help("Orders many images at several sellers at once. Default at one.")
    ] = None
    canary: Annotated[
        CanaryConfig | None, option_help("A new seller that gets a small share of the requests. Default none.")
    ] = None
    max_price: Annotated[Usd | None, option_help("Maximum USD per image. Default no limit.")] = None
    max_cost: Annotated[Usd | None, option_help("Maximum USD per request. Default no limit.")] = None
    max_seconds: Annotated[
        PositiveSeconds | None,
        option_help("Maximum p90 in seconds; for rank 'deadline' slower sellers come last. Default no limit."),
    ] = None
    only: Annotated[tuple[NonEmptyText, ...] | None, option_help("Only these sellers. Default all.")] = None
    ignore: Annotated[tuple[NonEmptyText, ...], option_help("Excludes these sellers. Default none.")] = ()
    regions: Annotated[Regions | None, option_help("Only sellers of accounts in these regions. Default all.")] = None
