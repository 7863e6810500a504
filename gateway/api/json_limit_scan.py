"""Checks a JSON body's size and depth in one pass before it is parsed, and extracts long strings.

Long strings are base64 images: neither the parser nor the heap holds them whole, and the rest is small. The pass stops
at the first exceeded limit, after at most a few thousand steps. No step holds the interpreter for more than a few
milliseconds, so that other threads, above all the event loop's, continue.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.api_errors import ApiError

MAX_DEPTH = 32
# Tokens are names, values, brackets and commas. A request with every parameter has about two hundred.
MAX_JSON_TOKENS = 4_000
# Counts all bytes except those of long strings.
MAX_REST_BYTES = 1 << 20
MIN_LONG_TEXT_BYTES = 16 << 10
# The length of the decoded prefix: longer than any parameter except an image.
TEXT_PREFIX_BYTES = PIECE_BYTES = 256 << 10
# Some encoders escape two of the 64 base64 characters. A string with more escapes is not an image.
MAX_ESCAPED_SHARE = 1 / 8
MAX_ESCAPE_LENGTH = len(rb"\u002b")

_STRUCTURAL_CHARACTER = re.compile(rb'["\[\]{},]')
# Possessive quantifiers do not backtrack: otherwise a body full of quotes would take hours.
_JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BACKSLASH = ord("\\")


class LongText(str):
    """A long string of which only the prefix is decoded."""

    __slots__ = ("_body", "_end", "_start")
    _body: bytes
    _start: int
    _end: int

    @classmethod
    def from_json(cls, body: bytes, start: int, end: int) -> str:
        """Returns the string between two quotes of the body; a LongText if it is long. Raises ValueError if its prefix
        is invalid."""
        text = next(_iterate_unescaped(body, start, end))
        if end - start <= TEXT_PREFIX_BYTES:
            return text
        long_text = cls(text)
        long_text._body, long_text._start, long_text._end = body, start, end
        return long_text

    def iterate_pieces(self) -> Iterator[str]:
        """Yields the whole string in pieces. Raises ValueError if the string is invalid."""
        return _iterate_unescaped(self._body, self._start, self._end)


class ScannedBody(Struct, frozen=True):
    """`rest`: the body with a placeholder for each long string. `texts`: start and end of the string by placeholder."""

    rest: bytes
    texts: dict[str, tuple[int, int]] = {}


def scan_json(body: bytes) -> ScannedBody:
    """Scans the body. Raises ApiError if it is nested too deeply, has too many tokens, or is too large without its long
    strings."""
    if len(body) <= MAX_JSON_TOKENS and body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        # This count includes brackets within strings. If it is too high, the scan decides.
        return ScannedBody(body)
    return _JsonScanner(body).scan()


class _JsonScanner:
    """`_copied_end`: the end of the part that is already in the rest. `_limit`: where the rest would be too large."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._rest_pieces: list[bytes] = []
        self._texts: dict[str, tuple[int, int]] = {}
        self._copied_end, self._limit = 0, MAX_REST_BYTES
        self._depth = self._token_count = 0

    def scan(self) -> ScannedBody:
        position = 0
        while mark := _STRUCTURAL_CHARACTER.search(self._body, position, self._limit):
            position = self._scan_token(mark[0], mark.start())
        if len(self._body) > self._limit:
            raise _rest_too_large_error()
        self._rest_pieces.append(self._body[self._copied_end :])
        return ScannedBody(b"".join(self._rest_pieces), self._texts)

    def _scan_token(self, mark: bytes, position: int) -> int:
        """Counts one token and returns the position after it."""
        self._token_count += 1
        if self._token_count > MAX_JSON_TOKENS:
            message = f"The body has more than {MAX_JSON_TOKENS:,} JSON tokens (names, values, brackets and commas)."
            raise ApiError(400, "invalid_json", message)
        if mark == b'"':
            return self._scan_string(position)
        if mark in b"[{":
            self._depth += 1
        elif mark in b"]}":
            self._depth -= 1
        if self._depth > MAX_DEPTH:
            raise ApiError(400, "invalid_json", f"The body is nested deeper than {MAX_DEPTH} levels.")
        return position + 1

    def _scan_string(self, start: int) -> int:
        end = self._body.find(b'"', start + 1)
        if end < 0:
            raise ApiError(400, "invalid_json", "Invalid JSON in the body: unterminated string.")
        if self._body[end - 1] != _BACKSLASH:
            if end - start > MIN_LONG_TEXT_BYTES and _is_extractable(self._body, start + 1, end):
                self._extract_long_text(start + 1, end)
            return end + 1
        if match := _JSON_STRING.match(self._body, start, self._limit):
            return match.end()
        if len(self._body) > self._limit:
            raise _rest_too_large_error()
        raise ApiError(400, "invalid_json", "Invalid JSON in the body: unterminated string.")

    def _extract_long_text(self, start: int, end: int) -> None:
        name = secrets.token_hex(16)
        self._texts[name] = (start, end)
        self._rest_pieces += (self._body[self._copied_end : start], name.encode())
        self._copied_end = end
        self._limit += end - start


def _is_extractable(body: bytes, start: int, end: int) -> bool:
    """Returns whether the string can be extracted: it is ASCII with few escapes."""
    escapes = 0
    for position in range(start, end, PIECE_BYTES):
        piece = body[position : min(position + PIECE_BYTES, end)]
        escapes += piece.count(b"\\")
        if not piece.isascii():
            return False
    return escapes <= MAX_ESCAPED_SHARE * (end - start)


def restore_texts(value: Any, scanned: ScannedBody, body: bytes) -> Any:
    """Replaces the placeholders in the parsed value. Raises ValueError if a long string is invalid."""
    if not scanned.texts:
        return value
    match value:
        case dict():
            # A parameter name is never that long: its prefix suffices for the error message.
            return {
                str(restore_texts(name, scanned, body)): restore_texts(content, scanned, body)
                for name, content in value.items()
            }
        case list():
            return [restore_texts(item, scanned, body) for item in value]
        case str() if value in scanned.texts:
            return LongText.from_json(body, *scanned.texts[value])
        case _:
            return value


def _iterate_unescaped(body: bytes, start: int, end: int) -> Iterator[str]:
    """Yields decoded pieces; never splits an escape sequence."""
    while start < end:
        stop = min(start + PIECE_BYTES, end)
        if stop < end and (escape := body.rfind(b"\\", stop - MAX_ESCAPE_LENGTH + 1, stop)) >= 0:
            stop = escape
        piece = body[start:stop]
        start = stop
        yield _decode_piece(piece)


def _decode_piece(piece: bytes) -> str:
    try:
        return msgspec.json.decode(b'"' + piece + b'"', type=str)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def _rest_too_large_error() -> ApiError:
    message = f"The body is larger than {MAX_REST_BYTES >> 20} MiB without its images. Send a smaller body."
    return ApiError(413, "body_too_large", message)
