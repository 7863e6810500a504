"""A request's body, read with suspicion: its size, type, encoding and depth before anything is made of it."""

import re
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec

from gateway.api.errors import ApiError

MOST_BYTES = 64 << 20
DEEPEST = 32
T = TypeVar("T")
_FIELD = re.compile(r"\$\.?([A-Za-z0-9_.\[\]]*)")
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")


async def read_body(chunks: AsyncIterator[bytes], length: str | None, most: int = MOST_BYTES) -> bytes:
    too_large = ApiError(413, "body_too_large", f"The body is larger than {most >> 20} MiB.")
    if length is not None and (not length.isascii() or not length.isdigit() or int(length[:20]) > most):
        raise too_large
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > most:
            raise too_large
    return bytes(body)


def json_of(body: bytes, content_type: str) -> dict[str, Any]:
    """An object; ApiError for everything else that bytes can be."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "unsupported_media_type", "Send the body as JSON, with Content-Type: application/json.")
    try:
        body.decode()
    except UnicodeDecodeError:
        raise ApiError(400, "invalid_json", "The body is not UTF-8.") from None
    if _depth(body) > DEEPEST:
        raise ApiError(400, "invalid_json", f"The body is nested deeper than {DEEPEST} levels.")
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"The body is no JSON: {str(error)[:200]}.") from None
    if not isinstance(value, dict):
        raise ApiError(400, "invalid_json", "The body must be a JSON object.")
    return value


def _depth(body: bytes) -> int:
    """The deepest nesting there could be: brackets within strings count too, unless there are many of them."""
    if body.count(b"[") + body.count(b"{") <= DEEPEST:
        return 0
    deepest = depth = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def converted(value: dict[str, Any], wanted: type[T]) -> T:
    """As the struct has it; ApiError names the field that is wrong."""
    # A client that says null means that it says nothing.
    said = {name: content for name, content in value.items() if content is not None}
    try:
        return msgspec.convert(said, wanted)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from None


def _named(message: str) -> ApiError:
    if unknown := _UNKNOWN.search(message):
        name = unknown[1][:60]
        return ApiError(400, "unknown_parameter", f"Unknown parameter: '{name}'.", param=name)
    if missing := re.search(r"missing required field `([^`]*)`", message):
        return ApiError(
            400, "missing_required_parameter", f"Missing required parameter: '{missing[1]}'.", param=missing[1]
        )
    what, _, where = message.partition(" - at ")
    field = _FIELD.search(where)
    name = field[1] if field and field[1] else None
    words = f"Invalid value for '{name}': {what}." if name else f"{what}."
    return ApiError(400, "invalid_value", words, param=name)
