"""What a JSON body is made of, found in one pass before anything is made of it.

The pass stops at the first limit that the body breaks, so that no body costs more than a few thousand steps in Python.
Long texts are set aside on the way: images in base64 are nearly all that large bodies are, and neither the JSON reader
nor the heap has to see them whole. What is left is small, whatever was sent.

No step holds the interpreter for more than some milliseconds: other threads, the event loop's above all, go on beside
it.
"""

import re
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.api_errors import ApiError

MAX_DEPTH = 32
# Names, values, brackets and commas together. A request with everything in it has some two hundred.
MAX_JSON_TOKENS = 4_000
# Everything but long texts.
MAX_REST_BYTES = 1 << 20
MIN_LONG_TEXT_BYTES = 16 << 10
# A text's first so many bytes are at hand as text: more than any parameter but an image may hold.
TEXT_PREFIX_BYTES = PIECE_BYTES = 256 << 10
# Some writers escape two of the 64 letters of base64. A text with more escapes is not an image.
MAX_ESCAPED_SHARE = 1 / 8
MAX_ESCAPE_LENGTH = len(rb"\u002b")

_STRUCTURAL_CHARACTER = re.compile(rb'["\[\]{},]')
# Without ever going back: else a body of quotes would take hours to look at.
_JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_BACKSLASH = ord("\\")


class LongText(str):
    """A text of which only the start is held as such: it ends where no parameter but an image goes on."""

    __slots__ = ("_body", "_end", "_start")
    _body: bytes
    _start: int
    _end: int

    @classmethod
    def from_json(cls, body: bytes, start: int, end: int) -> str:
        """The text between two quotes of a body, as it is if it is not that long. ValueError if its start is none."""
        text = next(_iterate_unescaped(body, start, end))
        if end - start <= TEXT_PREFIX_BYTES:
            return text
        long_text = cls(text)
        long_text._body, long_text._start, long_text._end = body, start, end
        return long_text

    def iterate_pieces(self) -> Iterator[str]:
        """Yields the whole text in pieces. ValueError if it is not valid text."""
        return _iterate_unescaped(self._body, self._start, self._end)


class ScannedBody(Struct, frozen=True):
    """`rest`: the body with a name of ours in place of each long text."""

    rest: bytes
    texts: dict[str, tuple[int, int]] = {}


def scan_json(body: bytes) -> ScannedBody:
    """ApiError for a body that is too deep, has too many parts, or holds too much beside its long texts."""
    if len(body) <= MAX_JSON_TOKENS and body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        # Brackets within texts count too, unless there are many of them.
        return ScannedBody(body)
    return _JsonScanner(body).scan()


class _JsonScanner:
    """`_copied_end`: up to where the body is already part of the rest. `_limit`: where the rest would be too large."""

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
        """Counts a part; where it ends."""
        self._token_count += 1
        if self._token_count > MAX_JSON_TOKENS:
            message = (
                f"The body has more than {MAX_JSON_TOKENS:,} parts (names, values, brackets and commas): send fewer."
            )
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
            raise ApiError(400, "invalid_json", "Invalid JSON in the body: a string in it does not end.")
        if self._body[end - 1] != _BACKSLASH:
            if end - start > MIN_LONG_TEXT_BYTES and _is_extractable(self._body, start + 1, end):
                self._extract_long_text(start + 1, end)
            return end + 1
        if match := _JSON_STRING.match(self._body, start, self._limit):
            return match.end()
        if len(self._body) > self._limit:
            raise _rest_too_large_error()
        raise ApiError(400, "invalid_json", "Invalid JSON in the body: a string in it does not end.")

    def _extract_long_text(self, start: int, end: int) -> None:
        name = secrets.token_hex(16)
        self._texts[name] = (start, end)
        self._rest_pieces += (self._body[self._copied_end : start], name.encode())
        self._copied_end = end
        self._limit += end - start


def _is_extractable(body: bytes, start: int, end: int) -> bool:
    """Whether it can be set aside: ASCII, and not much of it escaped."""
    escapes = 0
    for position in range(start, end, PIECE_BYTES):
        piece = body[position : min(position + PIECE_BYTES, end)]
        escapes += piece.count(b"\\")
        if not piece.isascii():
            return False
    return escapes <= MAX_ESCAPED_SHARE * (end - start)


def restore_texts(value: Any, scanned: ScannedBody, body: bytes) -> Any:
    """Puts the long texts back into the parsed value. ValueError if one of them is not valid text."""
    if not scanned.texts:
        return value
    match value:
        case dict():
            # No name is that long: its start is enough to say so.
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
    """Never more than a piece at a time. An escape is not cut in two."""
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
    return ApiError(413, "body_too_large", f"The body holds more than {MAX_REST_BYTES >> 20} MiB beside its images.")
