"""The rows of the parameter table that all routes that create jobs share.

The documentation lists them after a route's own rows, and before the refused ones.
"""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.api.parameter_definition import APPLIED, Parameter
from gateway.api.parameter_value_coercion import read_boolean, read_number

ShortText = Annotated[str, Meta(max_length=200)]
# USD as text or as a number. A float is read as its shortest decimal form.
UsdAmount = ShortText | int | float
Label = Annotated[str, Meta(min_length=1, max_length=64)]


class SellerFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """The sellers that may be used."""

    only: Annotated[tuple[ShortText, ...], Meta(description="Only these sellers.")] | None = None
    ignore: Annotated[tuple[ShortText, ...], Meta(description="Not these sellers.")] | None = None


class JobOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a job. Every request that creates a job has them."""

    stream: Annotated[
        bool,
        Parameter(APPLIED, "Whether the response is a stream of events.", False, fix_spelling=read_boolean),
    ] = False
    user: Annotated[ShortText | None, Parameter(APPLIED, "OpenAI's former name of `safety_identifier`.", "user-1")] = (
        None
    )
    safety_identifier: Annotated[
        ShortText | None,
        Parameter(APPLIED, "Your own id of the end user. Never stored, and never sent to a seller.", "user-1"),
    ] = None
    policy: Annotated[
        ShortText | None,
        Parameter(APPLIED, "A policy that your team may request. Default: the one that the rules select.", "cheapest"),
    ] = None
    max_price: Annotated[UsdAmount | None, Parameter(APPLIED, "Maximum USD per image.", "0.20")] = None
    max_cost: Annotated[UsdAmount | None, Parameter(APPLIED, "Maximum USD for the request.", "0.50")] = None
    max_seconds: Annotated[
        Annotated[float, Meta(gt=0, le=86_400)] | None,
        Parameter(
            APPLIED,
            "Only sellers that deliver nine in ten images within so many seconds. With the rank `deadline`: its "
            "deadline, if shorter; slower sellers come last.",
            90,
            fix_spelling=read_number,
        ),
    ] = None
    provider: Annotated[
        SellerFilter,
        Parameter(APPLIED, "The sellers that may be used: `only` these, or `ignore` these.", {"ignore": ["runapi"]}),
    ] = SellerFilter()
    metadata: Annotated[
        dict[ShortText, ShortText],
        Meta(max_length=16),
        Parameter(
            APPLIED, "Your own names and values. The job shows them, and rules can match them.", {"campaign": "spring"}
        ),
    ] = {}
    labels: Annotated[
        tuple[Label, ...],
        Meta(max_length=8),
        Parameter(APPLIED, "Your own words, by which the list of jobs can be filtered.", ["spring", "homepage"]),
    ] = ()
