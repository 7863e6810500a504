"""Reads request bodies and validates their size, media type, encoding and JSON syntax."""

import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import msgspec
from litestar.exceptions import InternalServerException

from gateway.api.api_errors import ApiError
from gateway.api.json_limit_scan import ScannedBody, restore_texts, scan_json
from gateway.api.validation_errors import MAX_NAME_LENGTH, to_api_error

# The limits for routes that accept images, and for those that do not.
MAX_BODY_BYTES = 64 << 20
MAX_BODY_BYTES_WITHOUT_IMAGES = 1 << 20
StructT = TypeVar("StructT", bound=msgspec.Struct)
# An escaped surrogate (\uD800-\uDFFF) without its other half.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F](?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]))"
)


async def read_body(chunks: AsyncIterator[bytes], content_length: str | None, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Reads the whole body. Raises the errors of `limit_body`."""
    # BytesIO returns its content without a copy; bytearray does not.
    body = io.BytesIO()
    async for chunk in limit_body(chunks, content_length, max_bytes):
        body.write(chunk)
    return body.getvalue()


async def limit_body(
    chunks: AsyncIterator[bytes], content_length: str | None, max_bytes: int = MAX_BODY_BYTES
) -> AsyncIterator[bytes]:
    """Yields the chunks. Raises ApiError if the body is larger than `max_bytes`, or if the client disconnects.

    `content_length` is the text of the header, perhaps with blanks around it (RFC 9110, 5.5). The server has checked
    that it is a number and that so many bytes arrive. Each ApiError is created in its `raise` statement: a local
    variable that refers to it would keep the body in memory.
    """
    declared = (content_length or "").strip(" \t")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise _body_too_large_error(max_bytes)
    received_bytes = 0
    try:
        async for chunk in chunks:
            received_bytes += len(chunk)
            if received_bytes > max_bytes:
                raise _body_too_large_error(max_bytes)
            yield chunk
    except InternalServerException:
        # Litestar raises this when the client disconnects within the body. It is not an internal error, and nothing
        # reads the response.
        raise ApiError(499, "caller_gone", "The client disconnected before the body was complete.") from None


def _body_too_large_error(max_bytes: int) -> ApiError:
    message = f"The body is larger than {max_bytes >> 20} MiB, and this route accepts no images. Send a smaller body."
    if max_bytes > MAX_BODY_BYTES_WITHOUT_IMAGES:
        message = f"The body is larger than {max_bytes >> 20} MiB. Pass large images as URLs."
    return ApiError(413, "body_too_large", message)


def parse_json_object(body: bytes, content_type: str, accepts_forms: bool = False) -> dict[str, Any]:
    """Parses a body that must be a JSON object. Raises ApiError if it is not. `accepts_forms`: the route accepts forms,
    too."""
    _require_json_type(content_type, accepts_forms)
    return decode_json_object(body)


def _require_json_type(content_type: str, accepts_forms: bool) -> None:
    if content_type.partition(";")[0].strip().lower() != "application/json":
        form = ", or a form as multipart/form-data" if accepts_forms else ""
        message = f"Unsupported Content-Type: send JSON as application/json{form}."
        raise ApiError(415, "unsupported_media_type", message)


def decode_json_object(body: bytes) -> dict[str, Any]:
    """Decodes a JSON object. Raises ApiError if the body is anything else."""
    scanned = scan_json(body)
    rest = scanned.rest
    if not rest.strip():
        raise ApiError(400, "invalid_json", "The body is empty. Send a JSON object.")
    try:
        text = rest.decode()
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_json", "The body is not valid UTF-8.") from None
    if rest.startswith(BOM_UTF8):
        raise ApiError(400, "invalid_json", "The body starts with a byte order mark. Send UTF-8 without one.")
    value = _decode_json(scanned, text, body)
    if not isinstance(value, dict):
        raise ApiError(400, "invalid_json", "The body must be a JSON object.")
    return value


def _decode_json(scanned: ScannedBody, text: str, body: bytes) -> Any:
    """Decodes the rest of the scanned body, of which `text` is the text."""
    try:
        value = msgspec.json.decode(scanned.rest)
        _DUPLICATE_FINDER.decode(text)
        return restore_texts(value, scanned, body)
    except ApiError:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        has_lone_surrogate = _LONE_SURROGATE.search(scanned.rest) is not None
        reason = (
            "a \\u escape contains an unpaired surrogate" if has_lone_surrogate else _describe_error(error, scanned)
        )
        raise ApiError(400, "invalid_json", f"Invalid JSON in the body: {reason[:200]}.") from None


def _describe_error(error: Exception, scanned: ScannedBody) -> str:
    """Describes the error. Omits the byte position if long texts were extracted, since it then differs from the
    position in the body."""
    message = str(error).partition(" - at ")[0]
    return message.partition(" (byte ")[0] if scanned.texts else message


def _reject_duplicate_names(pairs: list[tuple[str, Any]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            raise make_duplicate_error(name)
        names.add(name)


# msgspec is strict about numbers and strings; json is used only to find duplicate names.
_DUPLICATE_FINDER = json.JSONDecoder(object_pairs_hook=_reject_duplicate_names, parse_int=len, parse_float=len)


def make_duplicate_error(name: str) -> ApiError:
    short_name = name[:MAX_NAME_LENGTH]
    return ApiError(400, "duplicate_parameter", f"Duplicate parameter '{short_name}': send it once.", param=short_name)


def to_struct(value: Mapping[str, Any], struct_type: type[StructT], parent: str = "") -> StructT:
    """Converts the parsed value to a struct. Raises an ApiError that names the invalid field. `parent`: the parameter
    that contains the value."""
    try:
        return msgspec.convert(value, struct_type)
    except msgspec.ValidationError as error:
        raise to_api_error(error, struct_type, parent) from None
