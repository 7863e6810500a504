"""The types of the JSON bodies of the API of accounts at sellers."""

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from gateway.api.response_types import OptionalText, OptionalUnixTime


class AccountBody(TypedDict):
    """An account at a seller."""

    object: Literal["account"]
    name: str
    sellers: Annotated[list[str], Meta(description="The sellers of the configuration that use it.")]
    region: OptionalText
    enabled: Annotated[bool, Meta(description="Whether it has an API key.")]
    circuit_breaker: Annotated[
        Literal["closed", "half_open", "open"], Meta(description="Orders go there unless it is open.")
    ]
    refusal: Annotated[
        Literal["invalid_key", "no_credit"] | None,
        Meta(description="Why the seller refuses the account: no order goes there until a free check passes."),
    ]
    remedy: Annotated[str | None, Meta(description="What to do about the refusal.")]
    balance: Annotated[float | None, Meta(description="USD, as the seller says; null: it does not.")]
    low_balance: Annotated[float | None, Meta(description="USD below which an alert fires.")]
    checked_at: Annotated[OptionalUnixTime, Meta(description="When the seller was last asked.")]


class AccountListBody(TypedDict):
    """The configured accounts."""

    object: Literal["list"]
    data: list[AccountBody]
