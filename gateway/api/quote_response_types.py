"""The types of the JSON body of a quote. The OpenAPI document has their schemas and descriptions."""

from typing import Annotated, Literal, TypedDict

import msgspec
from msgspec import Meta

from gateway.api.response_types import PixelSize, UsdNumber, Warnings
from gateway.jobs.budgets import WindowKind
from providers.orders import Operation


class SignalsBody(TypedDict):
    """The measured signals of a seller for this operation, resolution and quality. null: nothing was measured."""

    healthy: bool
    p50: float | None
    p90: float | None
    load: float
    conformance: Annotated[float | None, Meta(description="The share of deliveries that were as ordered.")]
    faithful: bool
    deliveries: int
    refusal: Annotated[
        Literal["invalid_key", "no_credit"] | None,
        Meta(description="Why the seller refuses the account: no order goes there until a free check passes."),
    ]
    charged_price: Annotated[int | None, Meta(description="Micro-USD that it charges per image, if that is believed.")]


class QuotedSellerBody(TypedDict):
    """A seller that can fulfil the request."""

    seller: str
    price: UsdNumber
    price_per_image: UsdNumber
    ceiling: UsdNumber
    orders: int
    p50: Annotated[float, Meta(description="Seconds that half of the images need.")]
    p90: Annotated[float, Meta(description="Seconds that nine in ten images need.")]
    measured: Annotated[bool, Meta(description="Whether the seconds are measured; otherwise they are configured.")]
    fidelity: Annotated[Literal["exact", "near"], Meta(description="`near`: with substitutions.")]
    substitutions: list[str]
    reasons: Annotated[list[str], Meta(description="Why it has this rank.")]
    signals: SignalsBody


class ExcludedSellerBody(TypedDict):
    """A seller that cannot be used. `price`: null if it cannot express the request."""

    seller: str
    reasons: list[str]
    price: Annotated[msgspec.Raw | None, Meta(description="USD.", extra_json_schema={"type": ["number", "null"]})]


class QuotedBudgetBody(TypedDict):
    """A budget of the team or of the API key."""

    owner: Literal["team", "key"]
    kind: WindowKind
    window: Annotated[str, Meta(description="Like `2026-11-27`, `2026-W48`, `2026-11` (UTC) or `lifetime`.")]
    limit: UsdNumber
    spent: UsdNumber
    held: Annotated[UsdNumber, Meta(description="Held for running jobs, in USD.")]
    left: Annotated[UsdNumber, Meta(description="Neither spent nor held, in USD.")]
    hold: Annotated[UsdNumber, Meta(description="Amount that the request would hold until its cost is known, in USD.")]
    sufficient: Annotated[bool, Meta(description="Whether `left` is enough; otherwise the request would be a 429 now.")]


class QuoteBody(TypedDict):
    """The plan of a request, without an order."""

    object: Literal["quote"]
    operation: Operation
    model: str
    n: int
    size: PixelSize
    resolution: str
    aspect_ratio: str
    quality: str
    output_format: str
    policy: str
    rule: Annotated[str | None, Meta(description="The rule that selected the policy; null if the client named it.")]
    config: Annotated[str, Meta(description="The hash of the configuration.")]
    winner: QuotedSellerBody | None
    runner_up: QuotedSellerBody | None
    ranked: Annotated[list[QuotedSellerBody], Meta(description="The best one first.")]
    split: Annotated[
        list[int], Meta(description="How many images the first sellers get at once, if the policy splits the request.")
    ]
    excluded: list[ExcludedSellerBody]
    budgets: Annotated[
        list[QuotedBudgetBody],
        Meta(description="Those of the team and of the key. Empty without a usable seller."),
    ]
    warnings: Warnings
