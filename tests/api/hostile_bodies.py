"""Bodies made to keep a reader of JSON busy: each of about as many bytes as are wanted."""

import base64
from collections.abc import Callable

from gateway.api.json_scanner import MAX_DEPTH

KIB, MIB = 1 << 10, 1 << 20
# Below what is read at once, at the limit of bodies without images, and up to the limit of those with them.
SIZES = (31 * KIB, 900 * KIB, 8 * MIB, 62 * MIB)
PROMPT = b'{"prompt": "a", '


def _repeated(piece: bytes, start: bytes = b"", end: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: start + piece * ((size - len(start) - len(end)) // len(piece)) + end


def _numbered(pattern: bytes, start: bytes, end: bytes) -> Callable[[int], bytes]:
    """Each with a number of its own."""
    return lambda size: start + b",".join(pattern % number for number in range(size // (len(pattern) + 6))) + end


def _image(size: int) -> bytes:
    return base64.b64encode(bytes(size * 3 // 4 - 100))


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "open lists": _repeated(b"["),
    "open objects": _repeated(b'{"a":'),
    "lists within a field": lambda size: PROMPT + b'"a":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
    "closing brackets": _repeated(b"]", b"{"),
    "colons": _repeated(b":", b'{"a"'),
    "commas": _repeated(b",", b'{"a":1'),
    "names": _numbered(b'"%d":0', b"{", b"}"),
    "names within": _numbered(b'"%d":"v"', b'{"metadata":{', b"}}"),
    "tiny objects": _repeated(b"{},", b'{"a":[', b"{}]}"),
    "tiny objects with names": _repeated(b'{"a":1},', b'{"a":[', b"{}]}"),
    "tiny lists": _repeated(b"[],", b'{"a":[', b"[]]}"),
    "tiny texts": _repeated(b'"",', b'{"a":[', b'""]}'),
    "texts beside each other": _repeated(b'""', b"{"),
    "numbers": _repeated(b"1,", b'{"a":[', b"1]}"),
    "fractions": _repeated(b"0.1e1,", b'{"a":[', b"1]}"),
    "one number": _repeated(b"9", b'{"a":', b"}"),
    "one fraction": _repeated(b"9", b'{"a":0.', b"}"),
    "one exponent": _repeated(b"9", b'{"a":1e', b"}"),
    "nulls": _repeated(b"null,", b'{"a":[', b"null]}"),
    "blanks": _repeated(b" "),
    "blanks before": _repeated(b" ", b"", b'{"prompt":"a"}'),
    "blanks within": _repeated(b"\n", b'{"prompt":', b'"a"}'),
    "blanks and commas": _repeated(b" ,", b'{"a":1'),
    "words": _repeated(b"draw "),
    "zeros": _repeated(b"\0"),
    "quotes": _repeated(b'"'),
    "escaped quotes": _repeated(b'\\"', b'{"prompt":"', b'"}'),
    "escaped quotes without end": _repeated(b'\\"', b'{"prompt":"'),
    "backslashes": _repeated(b"\\\\", b'{"prompt":"', b'"}'),
    "backslashes without end": _repeated(b"\\", b'{"prompt":"'),
    "escapes": _repeated(b"\\u00e9", b'{"prompt":"', b'"}'),
    "halves of characters": _repeated(b"\\ud800", b'{"prompt":"', b'"}'),
    "pairs of halves": _repeated(b"\\ud83d\\ude00", b'{"prompt":"', b'"}'),
    "two-byte characters": _repeated("é".encode(), b'{"prompt":"', b'"}'),
    "four-byte characters": _repeated("👩".encode(), b'{"prompt":"', b'"}'),
    "one text": _repeated(b"a", b'{"prompt":"', b'"}'),
    "one text without end": _repeated(b"a", b'{"prompt":"'),
    "one name": _repeated(b"a", b'{"', b'":1}'),
    "line ends in a text": _repeated(b"\n", b'{"prompt":"', b'"}'),
    "brackets in a text": _repeated(b"[{", b'{"prompt":"', b'"}'),
    "no UTF-8 at the end": _repeated(b"a", b'{"prompt":"', b'\xff"}'),
    "no UTF-8 behind blanks": _repeated(b" ", b"", b'{"prompt":"\xff"}'),
    "a name twice at the end": _repeated(b"a", b'{"n":1,"prompt":"', b'","n":1}'),
    "as deep as may be": lambda size: (
        PROMPT + b'"a":' + _repeated(b"[],", b"[" * (MAX_DEPTH - 2), b"[]" + b"]" * (MAX_DEPTH - 2))(size) + b"}"
    ),
    "an image of nothing": lambda size: (
        PROMPT + b'"operation":"edit","image":"data:image/png;base64,' + _image(size) + b'"}'
    ),
    "bytes of nothing": lambda size: PROMPT + b'"operation":"edit","image":{"b64_json":"' + _image(size) + b'"}}',
    "an image that is none at its end": lambda size: (
        PROMPT + b'"operation":"edit","image":{"b64_json":"' + _image(size)[:-4] + b'*"}}'
    ),
    "an image with escapes": lambda size: (
        PROMPT + b'"operation":"edit","image":{"b64_json":"' + b"\\/" * (size // 2 - 40) + b'"}}'
    ),
    "a picture of nothing but its start": lambda size: (
        PROMPT
        + b'"operation":"edit","image":{"b64_json":"'
        + base64.b64encode(b"\xff\xd8" + b"\xff" * (size * 3 // 4 - 100))
        + b'"}}'
    ),
    "a long address": _repeated(b"a", PROMPT + b'"operation":"edit","image":"https://example.com/', b'"}'),
}
