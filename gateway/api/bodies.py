"""A request's body, read with suspicion: its size, type, encoding and form before anything is made of it."""

import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

import msgspec
from litestar.exceptions import InternalServerException

from gateway.api.errors import ApiError
from gateway.api.json_scanner import ScannedBody, restore_texts, scan_json
from gateway.api.refusing import LONGEST_NAME, refusal

# Where images may be sent, and where none can be.
MOST_BYTES = 64 << 20
MOST_BYTES_WITHOUT_IMAGES = 1 << 20
T = TypeVar("T")
# Half of a character that is written as two: its other half is not beside it.
_HALF = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F](?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]))"
)


async def read_body(chunks: AsyncIterator[bytes], length: str | None, most: int = MOST_BYTES) -> bytes:
    """ApiError is made where it is raised: kept in a name, it would keep the body until garbage is looked for.

    `length`: what the header says, perhaps with blanks around it (RFC 9110, 5.5). The server has seen to it that it is
    a number, and that so many bytes come.
    """
    declared = (length or "").strip(" \t")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > most:
        raise _too_large(most)
    # Unlike a bytearray, this hands its content over without copying it.
    body = io.BytesIO()
    try:
        async for chunk in chunks:
            if body.tell() + len(chunk) > most:
                raise _too_large(most)
            body.write(chunk)
    except InternalServerException:
        # The framework's word for a caller who left in the middle: no fault of ours, and nobody reads the answer.
        raise ApiError(499, "caller_gone", "The connection ended before the body did.") from None
    return body.getvalue()


def _too_large(most: int) -> ApiError:
    where = "" if most > MOST_BYTES_WITHOUT_IMAGES else ", and no image can be sent here"
    return ApiError(413, "body_too_large", f"The body is larger than {most >> 20} MiB{where}.")


def json_of(body: bytes, content_type: str) -> dict[str, Any]:
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
    value = _decoded(scanned, body)
    if not isinstance(value, dict):
        raise ApiError(400, "invalid_json", "The body must be a JSON object.")
    return value


def _decoded(scanned: ScannedBody, body: bytes) -> Any:
    try:
        value = msgspec.json.decode(scanned.rest)
        # Asked for the names only: the one reader is strict about numbers and text, the other says what came twice.
        json.loads(scanned.rest, object_pairs_hook=_once, parse_int=len, parse_float=len)
        return restore_texts(value, scanned, body)
    except ApiError:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        half = " a \\u escape stands for half a character" if _HALF.search(scanned.rest) else ""
        reason = half or f" {_describe_error(error, scanned)[:200]}"
        raise ApiError(400, "invalid_json", f"The body is no JSON:{reason}.") from None


def _describe_error(error: Exception, scanned: ScannedBody) -> str:
    """Where it happened is left out if the rest has other places than the body."""
    what = str(error).partition(" - at ")[0]
    return what.partition(" (byte ")[0] if scanned.texts else what


def _once(pairs: list[tuple[str, Any]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            shown = name[:LONGEST_NAME]
            raise ApiError(400, "duplicate_parameter", f"'{shown}' is there twice: say it once.", param=shown)
        names.add(name)


def converted(value: Mapping[str, Any], wanted: type[T]) -> T:
    """As the struct has it; ApiError names the field that is wrong."""
    try:
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        raise refusal(error, wanted) from None
