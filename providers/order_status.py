"""What one answer tells us about an order."""

from enum import StrEnum

from msgspec import Struct

from providers.faults import Fault
from providers.orders import ImageSource


class StatusNote(StrEnum):
    """Oddities in an answer that do not keep its pictures from being delivered."""

    COST_UNREADABLE = "cost_unreadable"
    COST_IMPLAUSIBLE = "cost_implausible"
    IMAGE_UNREADABLE = "image_unreadable"
    EXTRA_IMAGES = "extra_images"


class TokenUsage(Struct, frozen=True, kw_only=True):
    """What a seller that bills by tokens counted."""

    input_text: int
    input_image: int
    output: int


class Progress(Struct, frozen=True, kw_only=True, tag=True):
    """What one exchange told about one order: the seller's id for it and our reference, where the answer shows them."""

    id: str | None = None
    reference: str | None = None


class Accepted(Progress, frozen=True, kw_only=True, tag=True):
    """The seller has taken the order; come back with the id."""


class InProgress(Progress, frozen=True, kw_only=True, tag=True):
    """Still at it. `retry_after` is the seller's wish, in seconds."""

    status: str
    retry_after: float | None = None


class Ready(Progress, frozen=True, kw_only=True, tag=True):
    """Pictures. `cost` is what the seller says it charged, in micro-USD."""

    images: tuple[ImageSource, ...]
    cost: int | None = None
    usage: TokenUsage | None = None
    notes: tuple[StatusNote, ...] = ()


class Failed(Progress, frozen=True, kw_only=True, tag=True):
    """The seller says that the order failed or that it does not take it. `usage`: what it bills all the same."""

    fault: Fault
    usage: TokenUsage | None = None


class NoAnswer(Progress, frozen=True, kw_only=True, tag=True):
    """The exchange failed: we know no more about the order than before. Never made by a dialect's own reading."""

    fault: Fault


class SearchResult(Progress, frozen=True, kw_only=True, tag=True):
    """A search's findings, each with id and reference; the caller picks those that carry its own reference."""

    orders: tuple[Progress, ...]
