"""The status of an order as one answer reports it."""

from enum import StrEnum

from msgspec import Struct

from providers.faults import Fault
from providers.orders import ImageSource


class StatusNote(StrEnum):
    """Anomalies in an answer that do not prevent delivery."""

    COST_UNREADABLE = "cost_unreadable"
    COST_IMPLAUSIBLE = "cost_implausible"
    IMAGE_UNREADABLE = "image_unreadable"
    EXTRA_IMAGES = "extra_images"


class TokenUsage(Struct, frozen=True, kw_only=True):
    """The tokens that a seller counted for its bill."""

    input_text: int
    input_image: int
    output: int


class Progress(Struct, frozen=True, kw_only=True, tag=True):
    """The status of an order according to one answer, with its id and its reference if the answer contains them."""

    id: str | None = None
    reference: str | None = None


class Accepted(Progress, frozen=True, kw_only=True, tag=True):
    """The seller accepted the order; poll it by its id."""


class InProgress(Progress, frozen=True, kw_only=True, tag=True):
    """The order is in progress. `retry_after`: seconds that the seller asks to wait before the next poll."""

    status: str
    retry_after: float | None = None


class Ready(Progress, frozen=True, kw_only=True, tag=True):
    """The images are ready. `cost`: the charge that the seller reports, in micro-USD. `finished_at`: since when, by the
    seller's clock, in Unix seconds."""

    images: tuple[ImageSource, ...]
    cost: int | None = None
    usage: TokenUsage | None = None
    finished_at: float | None = None
    notes: tuple[StatusNote, ...] = ()


class Failed(Progress, frozen=True, kw_only=True, tag=True):
    """The order failed or was rejected. `usage`: the tokens that the seller bills although the order failed."""

    fault: Fault
    usage: TokenUsage | None = None


class NoAnswer(Progress, frozen=True, kw_only=True, tag=True):
    """The call failed, so it says nothing new about the status of the order.

    Only the seller client and `parsing` create it, never an adapter.
    """

    fault: Fault


class SearchResult(Progress, frozen=True, kw_only=True, tag=True):
    """The orders that a search found, each with its id and reference. The caller selects those with its own
    reference."""

    orders: tuple[Progress, ...]
