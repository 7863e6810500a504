"""What lies beside a job, written once: its request, the terms of its places, its plan, and the pictures it got."""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from providers.orders import Addressing, Format, Operation, Quality
from providers.sizes import Target
from providers.spec import Call

REQUEST, TERMS, PLAN = "request", "terms", "plan"


class Input(Struct, frozen=True, kw_only=True):
    """An input image, on our shelf under its key."""

    key: str
    media_type: str
    name: str
    width: int
    height: int


class RequestedParams(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The image parameters as the client sent them, before any mapping; None: not sent, or `auto`."""

    size: str | None = None
    resolution: str | None = None
    aspect_ratio: str | None = None
    quality: str | None = None
    output_format: str | None = None
    background: str | None = None


class SavedRequest(Struct, frozen=True, kw_only=True):
    """An ImageRequest, its images kept apart."""

    operation: Operation
    prompt: str
    target: Target
    quality: Quality
    output_format: Format
    pixels_asked: bool = False
    quality_asked: bool = False
    sources: tuple[Input, ...] = ()
    mask: Input | None = None
    metadata: Mapping[str, str] = {}
    requested: RequestedParams = RequestedParams()


class PlannedOffer(Struct, frozen=True, kw_only=True):
    """One ranked offer of a saved plan: the fields that a team may see."""

    seller: str
    quote_micros: int
    seconds: float
    fidelity: str
    substitutions: tuple[str, ...] = ()


class SavedPlan(Struct, frozen=True, kw_only=True):
    """The plan that a job was accepted with, best offer first."""

    ranked: tuple[PlannedOffer, ...]
    policy: str
    rule: str | None = None


class Terms(Struct, frozen=True, kw_only=True):
    """How an order at one place of the route is worded: what its seller is told of size, quality and format."""

    size: Addressing
    quality: Quality | None
    output_format: Format | None
    substitutions: tuple[str, ...] = ()


class Picture(Struct, frozen=True, kw_only=True):
    """A delivered image, on our shelf under its key, as read from its bytes. `quality`: the one that was ordered,
    None where its seller offers no choice."""

    index: int
    key: str
    format: Format
    width: int
    height: int
    bytes: int
    sha256: str
    seller: str
    attempt: int
    quality: Quality | None = None
    is_opaque: bool = False


class JobRecords(Struct, frozen=True, kw_only=True):
    """The documents beside a job that its team may see."""

    request: SavedRequest
    plan: SavedPlan
    pictures: tuple[Picture, ...]


class SavedCall(Struct, frozen=True, kw_only=True):
    """An order's bytes, kept only where the seller promises that the same ones never buy twice."""

    call: Call


_encode = msgspec.json.Encoder().encode
_request = msgspec.json.Decoder(SavedRequest)
_terms = msgspec.json.Decoder(tuple[Terms, ...])
_plan = msgspec.json.Decoder(SavedPlan)
_picture = msgspec.json.Decoder(Picture)
_pack = msgspec.msgpack.Encoder().encode
_call = msgspec.msgpack.Decoder(SavedCall)


def encode(record: object) -> bytes:
    return _encode(record)


def request_from(data: bytes) -> SavedRequest:
    return _request.decode(data)


def terms_from(data: bytes) -> tuple[Terms, ...]:
    return _terms.decode(data)


def plan_from(data: bytes) -> SavedPlan:
    return _plan.decode(data)


def picture_from(data: bytes) -> Picture:
    return _picture.decode(data)


def call_saved(call: Call) -> bytes:
    return _pack(SavedCall(call=call))


def call_from(data: bytes) -> Call:
    return _call.decode(data).call


def picture_name(attempt: int, index: int) -> str:
    """By attempt: two of them may bring a picture for one image, and only one of these is delivered."""
    return f"picture.{attempt}.{index}"


def order_name(attempt: int) -> str:
    return f"order.{attempt}"
