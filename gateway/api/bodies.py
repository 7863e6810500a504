"""A request's body, read with suspicion: its size, type, encoding and depth before anything is made of it."""

import io
import json
import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from litestar.exceptions import InternalServerException

from gateway.api.errors import ApiError
from gateway.api.refusing import LONGEST_NAME, refusal

MOST_BYTES = 64 << 20
DEEPEST = 32
T = TypeVar("T")
# Half of a character that is written as two: its other half is not beside it.
_HALF = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)


async def read_body(chunks: AsyncIterator[bytes], length: str | None, most: int = MOST_BYTES) -> bytes:
    """ApiError is made where it is raised: kept in a name, it would keep the body until garbage is looked for."""
    if length is not None and (not length.isascii() or not length.isdigit() or int(length[:20]) > most):
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
    return ApiError(413, "body_too_large", f"The body is larger than {most >> 20} MiB.")


def json_of(body: bytes, content_type: str) -> dict[str, Any]:
    """An object; ApiError for everything else that bytes can be."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "unsupported_media_type", "Send the body as JSON, with Content-Type: application/json.")
    if not body.strip():
        raise ApiError(400, "invalid_json", "The body is empty: send a JSON object.")
    try:
        body.decode()
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_json", "The body is not UTF-8.") from None
    if body.startswith(BOM_UTF8):
        raise ApiError(400, "invalid_json", "The body begins with a byte order mark: send UTF-8 without one.")
    if _depth(body) > DEEPEST:
        raise ApiError(400, "invalid_json", f"The body is nested deeper than {DEEPEST} levels.")
    value = _decoded(body)
    if not isinstance(value, dict):
        raise ApiError(400, "invalid_json", "The body must be a JSON object.")
    return value


def _decoded(body: bytes) -> Any:
    try:
        value = msgspec.json.decode(body)
        # Asked for the names only: the one reader is strict about numbers and text, the other says what came twice.
        json.loads(body, object_pairs_hook=_once, parse_int=len, parse_float=len)
    except ApiError:
        raise
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        half = " a \\u escape stands for half a character" if _HALF.search(body) else ""
        reason = half or f" {str(error).partition(' - at ')[0][:200]}"
        raise ApiError(400, "invalid_json", f"The body is no JSON:{reason}.") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> None:
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            shown = name[:LONGEST_NAME]
            raise ApiError(400, "duplicate_parameter", f"'{shown}' is there twice: say it once.", param=shown)
        names.add(name)


def _depth(body: bytes) -> int:
    """The deepest nesting there could be: brackets within strings count too, unless there are many of them."""
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return 0
    deepest = depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


# Without ever going back, and to the end where one does not end: else a body of quotes would take hours to look at.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def converted(value: dict[str, Any], wanted: type[T]) -> T:
    """As the struct has it; ApiError names the field that is wrong."""
    # A client that says null means that it says nothing.
    said = {name: content for name, content in value.items() if content is not None}
    try:
        return msgspec.convert(said, wanted)
    except msgspec.ValidationError as error:
        raise refusal(error, wanted) from None
