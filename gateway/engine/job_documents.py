"""The documents that are stored with a job, each written once.

They are its request, the order terms of its route entries, its webhook URL, the saved calls of orders that may be
resent, and its stored images.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from gateway.jobs.job import Job
from gateway.routing.routing_request import RequestedParams, RoutingRequest
from providers.adapter import Call
from providers.orders import Format, SizeSpec

REQUEST, TERMS, WEBHOOK = "request", "order_terms", "webhook"
DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)


class StoredInput(Struct, frozen=True, kw_only=True):
    """An input image in the storage."""

    key: str
    media_type: str
    name: str
    width: int
    height: int


class SavedRequest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The request as it was accepted: what routing depended on, the prompt, and the input images in the storage.

    `output_compression`: the quality of the delivered JPEG or WebP, None for the seller's own. `echoed_params`: what
    only the API's responses repeat.
    """

    routing: RoutingRequest
    prompt: str
    sources: tuple[StoredInput, ...] = ()
    mask: StoredInput | None = None
    requested_params: RequestedParams = RequestedParams()
    output_compression: int | None = None
    echoed_params: Mapping[str, Any] = {}


class OrderTerms(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Size, quality, format and background, as stated in an order to one route entry.

    `quality_word`: the seller's own word for the quality, if it differs.
    """

    size: SizeSpec
    quality: str | None
    output_format: Format | None
    background: str | None = None
    quality_word: str | None = None
    substitutions: tuple[str, ...] = ()


class OrderDocuments(Struct, frozen=True):
    """The documents that a job's orders are made from: its request, and the terms of each route entry."""

    request: SavedRequest
    terms: tuple[OrderTerms, ...]


class StoredImage(Struct, frozen=True, kw_only=True):
    """A delivered image in the storage, as its own bytes describe it.

    `quality`: the ordered one; None if the seller offers no choice.
    """

    index: int
    key: str
    format: Format
    width: int
    height: int
    bytes: int
    sha256: str
    seller: str
    attempt: int
    quality: str | None = None
    is_opaque: bool = False


class SavedCall(Struct, frozen=True, kw_only=True):
    """The request of an order. Saved only if the seller guarantees that the same request never buys twice."""

    call: Call


_encode_json = msgspec.json.Encoder().encode
_request_decoder = msgspec.json.Decoder(SavedRequest)
_terms_decoder = msgspec.json.Decoder(tuple[OrderTerms, ...])
_image_decoder = msgspec.json.Decoder(StoredImage)
_encode_msgpack = msgspec.msgpack.Encoder().encode
_call_decoder = msgspec.msgpack.Decoder(SavedCall)


def encode_document(document: object) -> bytes:
    return _encode_json(document)


def decode_request(data: bytes) -> SavedRequest:
    return _request_decoder.decode(data)


def encode_order_documents(documents: OrderDocuments) -> dict[str, bytes]:
    return {REQUEST: _encode_json(documents.request), TERMS: _encode_json(documents.terms)}


def decode_order_documents(saved: Mapping[str, bytes]) -> OrderDocuments | None:
    """Decodes the documents; None if they are not stored any more. Raises one of DECODE_ERRORS if they are damaged, or
    were written by an incompatible version."""
    if not {REQUEST, TERMS} <= saved.keys():
        return None
    return OrderDocuments(decode_request(saved[REQUEST]), _terms_decoder.decode(saved[TERMS]))


def decode_image(data: bytes) -> StoredImage:
    return _image_decoder.decode(data)


def encode_call(call: Call) -> bytes:
    return _encode_msgpack(SavedCall(call=call))


def decode_call(data: bytes) -> Call:
    return _call_decoder.decode(data).call


def is_image_document_name(name: str) -> bool:
    return name.startswith("image.")


def image_document_name(attempt_number: int, index: int) -> str:
    """Makes the name of an image document. It contains the attempt: two attempts may fetch the same image of a job, and
    only one of them is delivered."""
    return f"image.{attempt_number}.{index}"


def list_document_names(job: Job) -> tuple[str, ...]:
    """Lists the names of all documents that the job may have."""
    calls = [call_document_name(attempt.number) for attempt in job.attempts]
    images = [image_document_name(attempt.number, index) for attempt in job.attempts for index in attempt.images]
    return (REQUEST, TERMS, WEBHOOK, *calls, *images)


def call_document_name(attempt_number: int) -> str:
    return f"call.{attempt_number}"
