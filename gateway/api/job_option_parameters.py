"""The rows of the parameter table that every route has which creates jobs, besides the images themselves."""

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


IsStream = Annotated[
    bool,
    Parameter(APPLIED, "Whether the response is a stream of events.", False, fix_spelling=read_boolean),
]
UserId = Annotated[ShortText | None, Parameter(APPLIED, "OpenAI's former name of `safety_identifier`.", "user-1")]
SafetyIdentifier = Annotated[
    ShortText | None,
    Parameter(APPLIED, "Your own id of the end user. Never stored, and never sent to a seller.", "user-1"),
]
PolicyName = Annotated[
    ShortText | None,
    Parameter(APPLIED, "A policy that your team may request. Default: the one that the rules select.", "cheapest"),
]
MaxPrice = Annotated[UsdAmount | None, Parameter(APPLIED, "Maximum USD per image.", "0.20")]
MaxCost = Annotated[UsdAmount | None, Parameter(APPLIED, "Maximum USD for the request.", "0.50")]
MaxSeconds = Annotated[
    Annotated[float, Meta(gt=0, le=86_400)] | None,
    Parameter(APPLIED, "Maximum seconds for nine in ten images.", 90, fix_spelling=read_number),
]
ProviderFilter = Annotated[
    SellerFilter,
    Parameter(APPLIED, "The sellers that may be used: `only` these, or `ignore` these.", {"ignore": ["runapi"]}),
]
Metadata = Annotated[
    dict[ShortText, ShortText],
    Meta(max_length=16),
    Parameter(
        APPLIED, "Your own names and values. The job shows them, and rules can match them.", {"campaign": "spring"}
    ),
]
Labels = Annotated[
    tuple[Label, ...],
    Meta(max_length=8),
    Parameter(APPLIED, "Your own words, by which the list of jobs can be filtered.", ["spring", "homepage"]),
]
