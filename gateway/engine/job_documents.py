"""The documents that are stored with a job, each written once.

They are its request, its prompt, the order terms of its route entries, its webhook URL, the saved calls of orders that
may be resent, and its stored images. The prompt has a document of its own, since it may be deleted earlier than the
rest.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.document_names import PROMPT, REQUEST, TERMS
from gateway.routing.routing_request import RequestedParams, RoutingRequest
from providers.adapter import Call
from providers.orders import Format, SizeSpec

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

    `prompt`: empty after its retention, and wherever its document is not loaded.
    `output_compression`: the quality of the delivered JPEG or WebP, None for the seller's own. `echoed_params`: what
    only the API's responses repeat.
    """

    routing: RoutingRequest
    prompt: str = ""
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


def decode_request(documents: Mapping[str, bytes]) -> SavedRequest:
    """Decodes the request, with the prompt if that is among the documents."""
    request = _request_decoder.decode(documents[REQUEST])
    return replace(request, prompt=documents[PROMPT].decode()) if PROMPT in documents else request


def encode_order_documents(documents: OrderDocuments) -> dict[str, bytes]:
    request = documents.request
    return {
        REQUEST: _encode_json(replace(request, prompt="")),
        PROMPT: request.prompt.encode(),
        TERMS: _encode_json(documents.terms),
    }


def decode_order_documents(saved: Mapping[str, bytes]) -> OrderDocuments | None:
    """Decodes the documents; None if they are not stored any more. Earlier versions saved the prompt in the request.
    Raises one of DECODE_ERRORS if they are damaged, or were written by an incompatible version."""
    if not {REQUEST, TERMS} <= saved.keys():
        return None
    request = decode_request(saved)
    return OrderDocuments(request, _terms_decoder.decode(saved[TERMS])) if request.prompt else None


def decode_image(data: bytes) -> StoredImage:
    return _image_decoder.decode(data)


def encode_call(call: Call) -> bytes:
    return _encode_msgpack(SavedCall(call=call))


def decode_call(data: bytes) -> Call:
    return _call_decoder.decode(data).call
