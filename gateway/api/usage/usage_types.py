"""The types of the JSON bodies of the API of spend."""

from typing import Annotated, Literal, NotRequired, TypedDict

from msgspec import Meta

from gateway.api.response_types import OptionalText, UnixTime
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_sums import Dimension

Usd = Annotated[float, Meta(description="USD, exact to the micro-USD.")]


class UsageSumBody(TypedDict):
    """Amounts of money, and images."""

    spend: Annotated[float, Meta(description="For delivered images, paid by the team.")]
    images: Annotated[int, Meta(description="Delivered images.")]
    price_per_image: Annotated[float | None, Meta(description="The mean price of a delivered image.")]
    orphaned: Annotated[float, Meta(description="Charged by sellers for images that were not delivered.")]
    suspected: Annotated[float, Meta(description="Possibly charged by sellers: they have not said.")]
    excess: Annotated[float, Meta(description="Charged by sellers beyond what was held.")]


class UsageGroupBody(UsageSumBody):
    """The sum of one group. It has the fields that the request groups by; null: none, such as no API key."""

    team: NotRequired[str | None]
    key: NotRequired[str | None]
    seller: NotRequired[str | None]
    model: NotRequired[str | None]
    cell: NotRequired[str | None]
    day: NotRequired[str | None]
    hour: NotRequired[str | None]


class UsageReportBody(TypedDict):
    """A report of the ledger."""

    object: Literal["usage"]
    since: Annotated[str, Meta(description="The first day or hour, in UTC.")]
    until: Annotated[str, Meta(description="The last day or hour, in UTC. It is included.")]
    team: Annotated[str | None, Meta(description="Whose jobs are counted; null: those of all teams.")]
    group_by: list[Dimension]
    data: list[UsageGroupBody]
    total: UsageSumBody


class LedgerEntryBody(TypedDict):
    """An entry of the ledger. A correction is a further entry, with amounts below zero."""

    object: Literal["ledger_entry"]
    line: LedgerLine
    amount: Usd
    images: int
    job: OptionalText
    attempt: int
    reason: Annotated[str | None, Meta(description="The fault of the order, or why the entry was booked.")]
    team: str
    key: OptionalText
    seller: str
    model: str
    cell: str
    ticket: Annotated[str | None, Meta(description="The seller's id of the order.")]
    day: str
    hour: int | None
    posted_at: UnixTime


class LedgerEntryListBody(TypedDict):
    """Entries of the ledger, the newest day first."""

    object: Literal["list"]
    data: list[LedgerEntryBody]
    has_more: Annotated[bool, Meta(description="The period has more entries: ask for a shorter one.")]
