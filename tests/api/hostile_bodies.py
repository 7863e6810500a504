"""Bodies that are expensive for a JSON parser, each of about the requested size."""

import base64
from collections.abc import Callable

from gateway.api.json_limit_scan import MAX_DEPTH

KIB, MIB = 1 << 10, 1 << 20
# Below what is parsed in place, at the limit of bodies without images, and up to the limit of those with images.
BODY_SIZES = (31 * KIB, 900 * KIB, 8 * MIB, 62 * MIB)
PROMPT_PREFIX = b'{"prompt": "a", '


def _repeat_piece(piece: bytes, start: bytes = b"", end: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: start + piece * ((size - len(start) - len(end)) // len(piece)) + end


def _repeat_numbered(pattern: bytes, start: bytes, end: bytes) -> Callable[[int], bytes]:
    """Repeats the piece, each time with another number."""
    return lambda size: start + b",".join(pattern % number for number in range(size // (len(pattern) + 6))) + end


def _encode_zeros(size: int) -> bytes:
    return base64.b64encode(bytes(size * 3 // 4 - 100))


HOSTILE_BODIES: dict[str, Callable[[int], bytes]] = {
    "open lists": _repeat_piece(b"["),
    "open objects": _repeat_piece(b'{"a":'),
    "lists in a field": lambda size: PROMPT_PREFIX + b'"a":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
    "closing brackets": _repeat_piece(b"]", b"{"),
    "colons": _repeat_piece(b":", b'{"a"'),
    "commas": _repeat_piece(b",", b'{"a":1'),
    "names": _repeat_numbered(b'"%d":0', b"{", b"}"),
    "names within": _repeat_numbered(b'"%d":"v"', b'{"metadata":{', b"}}"),
    "tiny objects": _repeat_piece(b"{},", b'{"a":[', b"{}]}"),
    "tiny objects with names": _repeat_piece(b'{"a":1},', b'{"a":[', b"{}]}"),
    "tiny lists": _repeat_piece(b"[],", b'{"a":[', b"[]]}"),
    "tiny texts": _repeat_piece(b'"",', b'{"a":[', b'""]}'),
    "many texts in one list": _repeat_piece(b'""', b"{"),
    "numbers": _repeat_piece(b"1,", b'{"a":[', b"1]}"),
    "fractions": _repeat_piece(b"0.1e1,", b'{"a":[', b"1]}"),
    "one number": _repeat_piece(b"9", b'{"a":', b"}"),
    "one fraction": _repeat_piece(b"9", b'{"a":0.', b"}"),
    "one exponent": _repeat_piece(b"9", b'{"a":1e', b"}"),
    "nulls": _repeat_piece(b"null,", b'{"a":[', b"null]}"),
    "blanks": _repeat_piece(b" "),
    "blanks before": _repeat_piece(b" ", b"", b'{"prompt":"a"}'),
    "blanks within": _repeat_piece(b"\n", b'{"prompt":', b'"a"}'),
    "blanks and commas": _repeat_piece(b" ,", b'{"a":1'),
    "words": _repeat_piece(b"draw "),
    "zeros": _repeat_piece(b"\0"),
    "quotes": _repeat_piece(b'"'),
    "escaped quotes": _repeat_piece(b'\\"', b'{"prompt":"', b'"}'),
    "an unterminated text of escaped quotes": _repeat_piece(b'\\"', b'{"prompt":"'),
    "backslashes": _repeat_piece(b"\\\\", b'{"prompt":"', b'"}'),
    "an unterminated text of backslashes": _repeat_piece(b"\\", b'{"prompt":"'),
    "escapes": _repeat_piece(b"\\u00e9", b'{"prompt":"', b'"}'),
    "unpaired surrogates": _repeat_piece(b"\\ud800", b'{"prompt":"', b'"}'),
    "paired surrogates": _repeat_piece(b"\\ud83d\\ude00", b'{"prompt":"', b'"}'),
    "two-byte characters": _repeat_piece("é".encode(), b'{"prompt":"', b'"}'),
    "four-byte characters": _repeat_piece("👩".encode(), b'{"prompt":"', b'"}'),
    "one text": _repeat_piece(b"a", b'{"prompt":"', b'"}'),
    "an unterminated text": _repeat_piece(b"a", b'{"prompt":"'),
    "one name": _repeat_piece(b"a", b'{"', b'":1}'),
    "line breaks in a text": _repeat_piece(b"\n", b'{"prompt":"', b'"}'),
    "brackets in a text": _repeat_piece(b"[{", b'{"prompt":"', b'"}'),
    "invalid UTF-8 at the end": _repeat_piece(b"a", b'{"prompt":"', b'\xff"}'),
    "invalid UTF-8 after blanks": _repeat_piece(b" ", b"", b'{"prompt":"\xff"}'),
    "a name twice at the end": _repeat_piece(b"a", b'{"n":1,"prompt":"', b'","n":1}'),
    "the maximum depth": lambda size: (
        PROMPT_PREFIX
        + b'"a":'
        + _repeat_piece(b"[],", b"[" * (MAX_DEPTH - 2), b"[]" + b"]" * (MAX_DEPTH - 2))(size)
        + b"}"
    ),
    "an image of zeros": lambda size: (
        PROMPT_PREFIX + b'"operation":"edit","image":"data:image/png;base64,' + _encode_zeros(size) + b'"}'
    ),
    "a list of zeros": lambda size: (
        PROMPT_PREFIX + b'"operation":"edit","image":{"b64_json":"' + _encode_zeros(size) + b'"}}'
    ),
    "an image with an invalid end": lambda size: (
        PROMPT_PREFIX + b'"operation":"edit","image":{"b64_json":"' + _encode_zeros(size)[:-4] + b'*"}}'
    ),
    "an image with escapes": lambda size: (
        PROMPT_PREFIX + b'"operation":"edit","image":{"b64_json":"' + b"\\/" * (size // 2 - 40) + b'"}}'
    ),
    "a data URI without an image": lambda size: (
        PROMPT_PREFIX
        + b'"operation":"edit","image":{"b64_json":"'
        + base64.b64encode(b"\xff\xd8" + b"\xff" * (size * 3 // 4 - 100))
        + b'"}}'
    ),
    "a long URL": _repeat_piece(b"a", PROMPT_PREFIX + b'"operation":"edit","image":"https://example.com/', b'"}'),
}
