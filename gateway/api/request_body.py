"""A request's body, read with suspicion: its size, type, encoding and form before anything is made of it."""

import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import msgspec
from litestar.exceptions import InternalServerException

from gateway.api.api_errors import ApiError
from gateway.api.json_scanner import ScannedBody, restore_texts, scan_json
from gateway.api.validation_errors import MAX_NAME_LENGTH, to_api_error

# Where images may be sent, and where none can be.
MAX_BODY_BYTES = 64 << 20
MAX_BODY_BYTES_WITHOUT_IMAGES = 1 << 20
T = TypeVar("T")
# Half of a character that is written as two: its other half is not beside it.
_LONE_SURROGATE = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F](?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]))"
)


async def read_body(chunks: AsyncIterator[bytes], content_length: str | None, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """ApiError is made where it is raised: kept in a name, it would keep the body until garbage is looked for.

    `content_length`: what the header says, perhaps with blanks around it (RFC 9110, 5.5). The server has seen to it that it is
    a number, and that so many bytes come.
    """
    declared = (content_length or "").strip(" \t")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise _body_too_large_error(max_bytes)
    # Unlike a bytearray, this hands its content over without copying it.
    body = io.BytesIO()
    try:
        async for chunk in chunks:
            if body.tell() + len(chunk) > max_bytes:
                raise _body_too_large_error(max_bytes)
            body.write(chunk)
    except InternalServerException:
        # The framework's word for a caller who left in the middle: no fault of ours, and nobody reads the answer.
        raise ApiError(499, "caller_gone", "The connection ended before the body did.") from None
    return body.getvalue()


def _body_too_large_error(max_bytes: int) -> ApiError:
    hint = "" if max_bytes > MAX_BODY_BYTES_WITHOUT_IMAGES else ", and no image can be sent here"
    return ApiError(413, "body_too_large", f"The body is larger than {max_bytes >> 20} MiB{hint}.")


def parse_json_object(body: bytes, content_type: str) -> dict[str, Any]:
    """An object; ApiError for everything else that bytes can be."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "unsupported_media_type", "Send the body as JSON, with Content-Type: application/json.")
    scanned = scan_json(body)
    rest = scanned.rest
    if not rest.strip():
        raise ApiError(400, "invalid_json", "The body is empty: send a JSON object.")
    try:
        rest.decode()
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_json", "The body is not UTF-8.") from None
    if rest.startswith(BOM_UTF8):
        raise ApiError(400, "invalid_json", "The body begins with a byte order mark: send UTF-8 without one.")
    value = _decode_json(scanned, body)
    if not isinstance(value, dict):
        raise ApiError(400, "invalid_json", "The body must be a JSON object.")
    return value


def _decode_json(scanned: ScannedBody, body: bytes) -> Any:
    try:
        value = msgspec.json.decode(scanned.rest)
        # Asked for the names only: the one reader is strict about numbers and text, the other says what came twice.
        json.loads(scanned.rest, object_pairs_hook=_reject_duplicate_names, parse_int=len, parse_float=len)
        return restore_texts(value, scanned, body)
    except ApiError:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        surrogate_reason = " a \\u escape stands for half a character" if _LONE_SURROGATE.search(scanned.rest) else ""
        reason = surrogate_reason or f" {_describe_error(error, scanned)[:200]}"
        raise ApiError(400, "invalid_json", f"The body is no JSON:{reason}.") from None


def _describe_error(error: Exception, scanned: ScannedBody) -> str:
    """Where it happened is left out if the rest has other places than the body."""
    message = str(error).partition(" - at ")[0]
    return message.partition(" (byte ")[0] if scanned.texts else message


def _reject_duplicate_names(pairs: list[tuple[str, Any]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            short_name = name[:MAX_NAME_LENGTH]
            raise ApiError(400, "duplicate_parameter", f"'{short_name}' is there twice: say it once.", param=short_name)
        names.add(name)


def to_struct(value: Mapping[str, Any], struct_type: type[T]) -> T:
    """As the struct has it; ApiError names the field that is wrong."""
    try:
        return msgspec.convert(value, struct_type)
    except msgspec.ValidationError as error:
        raise to_api_error(error, struct_type) from None
