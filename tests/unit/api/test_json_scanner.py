"""Bodies are looked at in few steps, whatever they are; what is set aside on the way comes back as it was."""

import asyncio
import base64
import contextlib
import json
import random
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from msgspec import inspect

from gateway.api.bodies import converted, json_of
from gateway.api.body_thread import INLINE_MAX_BYTES, run_off_loop
from gateway.api.errors import ApiError
from gateway.api.json_scanner import (
    LONG_BYTES,
    MAX_DEPTH,
    MAX_PARTS,
    MAX_REST_BYTES,
    PIECE_BYTES,
    START_BYTES,
    LongText,
    scan_json,
)
from gateway.api.wishes import Generation, InputWish, JobWishes, decode_base64, input_wishes
from tests.api.hostile_bodies import HOSTILE, MIB

# For each part of a body, and for each piece of a long text.
LINES_PER_STEP = 25


def read(body: bytes, wanted: type[Any] = JobWishes) -> Any:
    return converted(json_of(body, "application/json"), wanted)


def whole(text: str) -> str:
    return "".join(text.pieces()) if isinstance(text, LongText) else text


# --- no body costs much


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("size", [100_000, 8 * MIB])
def test_work_on_a_body_is_bounded(name: str, size: int) -> None:
    body = HOSTILE[name](size)
    with counted_lines() as lines:
        with contextlib.suppress(ApiError):
            scan_json(body)
    assert lines[0] <= LINES_PER_STEP * (MAX_PARTS + 1 + len(body) // PIECE_BYTES)


@contextlib.contextmanager
def counted_lines() -> Iterator[list[int]]:
    """How many lines of Python are run."""
    count, before = [0], sys.gettrace()

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        count[0] += event == "line"
        return trace

    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"[" * (MAX_DEPTH + 1) + b"x" * 5_000, 400, "nested deeper than 32 levels"),
        (b'{"a":[' + b"1," * MAX_PARTS + b"1]}", 400, "more than 4,000 parts"),
        (b'{"a":"' + b'\\"' * MAX_REST_BYTES + b'"}', 413, "more than 1 MiB beside its images"),
        (b" " * (MAX_REST_BYTES + 1) + b"{}", 413, "more than 1 MiB beside its images"),
        (b'{"a":"' + b"a" * 2 * MAX_REST_BYTES, 400, "a string in it does not end"),
        (b'{"a":"' + b"a" * 2 * LONG_BYTES + b'\\"', 400, "a string in it does not end"),
    ],
)
def test_bodies_beyond_a_limit_are_refused_by_its_name(body: bytes, status: int, words: str) -> None:
    with pytest.raises(ApiError) as refused:
        scan_json(body)
    assert (refused.value.status, words in refused.value.message) == (status, True), refused.value.message


def test_bodies_at_the_limits_are_read() -> None:
    deep = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"," + b'"b":"' + b"b" * 5_000 + b'"}'
    assert json_of(deep, "application/json")["b"] == "b" * 5_000
    # Two brackets and two texts with a comma between them, beside as many commas as values.
    many = b'{"a":[' + b"1," * (MAX_PARTS - 6) + b"1]}"
    assert len(json_of(many, "application/json")["a"]) == MAX_PARTS - 5
    full = b'{"a":"' + b'\\"' * ((MAX_REST_BYTES - 8) // 2) + b'"}'
    assert len(json_of(full, "application/json")["a"]) == (MAX_REST_BYTES - 8) // 2


# --- long texts


def test_whatever_is_set_aside_comes_back_as_it_was() -> None:
    dice = random.Random(20_261_126)  # noqa: S311
    for _ in range(60):
        value = {"a": _text(dice), "b": [_text(dice), {"c": _text(dice), _text(dice): 1}], "d": 1.5}
        body = json.dumps(value, ensure_ascii=dice.random() < 0.5).encode()
        if dice.random() < 0.5:
            body = body.replace(b"/", b"\\/").replace(b"+", b"\\u002b")
        found = json_of(body, "application/json")
        assert whole(found["a"]) == value["a"]
        assert all(name.startswith(start) for name, start in zip(value["b"][1], found["b"][1], strict=True))  # type: ignore[arg-type]
        assert whole(found["b"][0]) == value["b"][0]  # type: ignore[index]


def _text(dice: random.Random) -> str:
    letters = dice.choice(("abcdefghABCDEFGH01234567+/=", 'ab\\"\n/é', "a b,c[d]{e}:f", "👩/+"))
    size = dice.choice((0, 5, LONG_BYTES - 1, LONG_BYTES + 1, PIECE_BYTES - 2, PIECE_BYTES + 3, 3 * PIECE_BYTES))
    if set(letters) & set('\\"é👩'):
        # These stay in the rest, which has its limit.
        size = min(size, LONG_BYTES + 1)
    return "".join(dice.choices(letters, k=size))


@pytest.mark.parametrize("shift", range(8))
def test_an_escape_is_not_cut_in_two(shift: int) -> None:
    text = "a" * (PIECE_BYTES - shift) + "+/" + "a" * (PIECE_BYTES - shift) + "+/a"
    body = json.dumps({"a": text}).replace("+", "\\u002B").replace("/", "\\/").encode()
    found = json_of(body, "application/json")["a"]
    assert isinstance(found, LongText)
    assert whole(found) == text


def test_half_a_character_in_a_long_text_is_reported() -> None:
    with pytest.raises(ApiError, match="no JSON"):
        json_of(b'{"prompt":"' + b"a" * LONG_BYTES + b'\\ud800"}', "application/json")


def test_a_prompt_as_long_as_may_be_is_read_whole() -> None:
    for letter in ("a", "é", "👩", '"', "\\", "/"):
        prompt = letter * 32_000
        for is_ascii in (True, False):
            body = json.dumps({"prompt": prompt}, ensure_ascii=is_ascii).encode()
            assert read(body, Generation).prompt == prompt
    words = "a lighthouse at dawn, ünïcode " * 1_060
    assert read(json.dumps({"prompt": words}).encode(), Generation).prompt == words


@pytest.mark.parametrize("wanted", [Generation, JobWishes])
def test_no_parameter_but_an_image_takes_the_start_of_a_long_text(wanted: type[Any]) -> None:
    """Of a text as long as that, validation sees the start; so whatever takes a text must refuse one of that length."""
    unbounded = {path for path in _unbounded_texts(inspect.type_info(wanted), "") if not path.startswith("image")}
    assert unbounded == ({"mask", "mask.image_url", "mask.b64_json"} if wanted is JobWishes else set())


def _unbounded_texts(info: inspect.Type, path: str) -> Iterator[str]:
    match info:
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from _unbounded_texts(field.type, f"{path}.{field.name}".lstrip("."))
        case inspect.UnionType(types=types):
            for kind in types:
                yield from _unbounded_texts(kind, path)
        case inspect.DictType(key_type=key, value_type=content):
            yield from _unbounded_texts(inspect.UnionType((key, content)), path)
        case inspect.VarTupleType(item_type=inner) | inspect.Metadata(type=inner):
            yield from _unbounded_texts(inner, path)
        case inspect.StrType(max_length=most) if most is None or most >= START_BYTES * 3 // 8:
            yield path


# --- images


def test_an_image_is_read_out_of_a_body_however_it_is_written() -> None:
    data = random.Random(1).randbytes(MIB)  # noqa: S311
    text = base64.b64encode(data).decode()
    for written in (text, text.replace("/", "\\/"), text.replace("+", "\\u002B").replace("=", "\\u003d")):
        for image in ('{"b64_json":"%s"}', '"data:image/png;base64,%s"', '{"image_url":"data:,%s"}'):
            wishes = read(b'{"prompt":"a","image":' + (image % written).encode() + b"}")
            [(_, wish)] = input_wishes(wishes)
            assert wish.inline is not None
            pieces = iter([whole(wish.inline).rpartition(",")[2]])
            assert decode_base64(pieces) == data


def test_base64_in_pieces_is_as_strict_as_base64_as_a_whole() -> None:
    dice = random.Random(7)  # noqa: S311
    for _ in range(3_000):
        text = base64.b64encode(dice.randbytes(dice.randrange(12))).decode()
        if dice.random() < 0.5:
            at = dice.randrange(len(text) + 1)
            text = text[:at] + dice.choice(("=", "==", "*", "A", "\n", "é", "AA=A")) + text[at + dice.randrange(2) :]
        cuts = sorted(dice.randrange(len(text) + 1) for _ in range(3))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        # The library lets a whole text be followed by padding.
        expected = _decoded_whole(text) if len(text) % 4 == 0 else None
        assert _decoded(pieces) == _decoded([text]) == expected, text


def _decoded(pieces: list[str]) -> bytes | None:
    try:
        return decode_base64(pieces)
    except ValueError:
        return None


def _decoded_whole(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("text", "is_inline", "is_address"),
    [
        ("data:image/png;base64,AAAA", True, False),
        (base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(9)).decode(), True, False),
        (base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(9)).decode(), True, False),
        (base64.b64encode(b"RIFF\x10\x00\x00\x00WEBP").decode(), True, False),
        (base64.b64encode(b"GIF89a" + bytes(9)).decode(), False, False),
        ("https://example.com/a.png", False, True),
        ("HTTPS://example.com/a.png", False, True),
        ("example.com/a.png", False, False),
        ("a.png", False, False),
        ("", False, False),
    ],
)
def test_inline_images_and_addresses_are_distinguished(text: str, is_inline: bool, is_address: bool) -> None:
    wish = InputWish(image_url=text)
    assert (wish.inline is not None, wish.is_address) == (is_inline, is_address)


def test_an_address_without_end_is_none() -> None:
    wishes = read(b'{"prompt":"a","image":"https://' + b"a" * MIB + b'"}')
    assert not input_wishes(wishes)[0][1].is_address


# --- beside the loop


@pytest.mark.parametrize(("size", "is_beside"), [(INLINE_MAX_BYTES, False), (INLINE_MAX_BYTES + 1, True)])
def test_large_bodies_are_parsed_by_a_thread(size: int, is_beside: bool) -> None:
    thread = asyncio.run(run_off_loop(size, threading.current_thread))
    assert (thread is not threading.main_thread(), thread.name.startswith("bodies")) == (is_beside, is_beside)
