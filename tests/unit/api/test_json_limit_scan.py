"""The scanner's work is bounded for any body, and extracted long strings come back unchanged."""

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

from gateway.api.api_errors import ApiError
from gateway.api.input_images import decode_base64, list_input_refs
from gateway.api.json_limit_scan import (
    MAX_DEPTH,
    MAX_JSON_TOKENS,
    MAX_REST_BYTES,
    MIN_LONG_TEXT_BYTES,
    PIECE_BYTES,
    TEXT_PREFIX_BYTES,
    LongText,
    scan_json,
)
from gateway.api.parameter_table import CreateJobRequest, GenerationRequest, InputImageRef
from gateway.api.request_body_reader import parse_json_object, to_struct
from gateway.api.request_parser_thread import MAX_INLINE_BYTES, run_off_loop
from tests.api.hostile_bodies import HOSTILE_BODIES, MIB

# Executed lines per token, and per piece of a long string.
MAX_LINES_PER_STEP = 25


def parse_body(body: bytes, struct_class: type[Any] = CreateJobRequest) -> Any:
    return to_struct(parse_json_object(body, "application/json"), struct_class)


def join_text(text: str) -> str:
    return "".join(text.iterate_pieces()) if isinstance(text, LongText) else text


# --- bounded work


@pytest.mark.parametrize("name", HOSTILE_BODIES)
@pytest.mark.parametrize("size", [100_000, 8 * MIB])
def test_scanning_work_is_bounded(name: str, size: int) -> None:
    body = HOSTILE_BODIES[name](size)
    with count_executed_lines() as lines:
        with contextlib.suppress(ApiError):
            scan_json(body)
    assert lines[0] <= MAX_LINES_PER_STEP * (MAX_JSON_TOKENS + 1 + len(body) // PIECE_BYTES)


@contextlib.contextmanager
def count_executed_lines() -> Iterator[list[int]]:
    """Counts the executed lines of Python."""
    count, previous_trace = [0], sys.gettrace()

    def count_line(frame: FrameType, event: str, arg: object) -> Any:
        count[0] += event == "line"
        return count_line

    sys.settrace(count_line)
    try:
        yield count
    finally:
        sys.settrace(previous_trace)


@pytest.mark.parametrize(
    ("body", "status", "expected_text"),
    [
        (b"[" * (MAX_DEPTH + 1) + b"x" * 5_000, 400, "nested deeper than 32 levels"),
        (b'{"a":[' + b"1," * MAX_JSON_TOKENS + b"1]}", 400, "more than 4,000 JSON tokens"),
        (b'{"a":"' + b'\\"' * MAX_REST_BYTES + b'"}', 413, "larger than 1 MiB without its images"),
        (b" " * (MAX_REST_BYTES + 1) + b"{}", 413, "larger than 1 MiB without its images"),
        (b'{"a":"' + b"a" * 2 * MAX_REST_BYTES, 400, "unterminated string"),
        (b'{"a":"' + b"a" * 2 * MIN_LONG_TEXT_BYTES + b'\\"', 400, "unterminated string"),
    ],
)
def test_body_beyond_limit_is_rejected_with_limit_named(body: bytes, status: int, expected_text: str) -> None:
    with pytest.raises(ApiError) as error_info:
        scan_json(body)
    assert (error_info.value.status, expected_text in error_info.value.message) == (status, True), (
        error_info.value.message
    )


def test_bodies_at_limits_are_parsed() -> None:
    deep = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"," + b'"b":"' + b"b" * 5_000 + b'"}'
    assert parse_json_object(deep, "application/json")["b"] == "b" * 5_000
    # Two brackets, two strings and a comma between them; the others are values and commas.
    many = b'{"a":[' + b"1," * (MAX_JSON_TOKENS - 6) + b"1]}"
    assert len(parse_json_object(many, "application/json")["a"]) == MAX_JSON_TOKENS - 5
    full = b'{"a":"' + b'\\"' * ((MAX_REST_BYTES - 8) // 2) + b'"}'
    assert len(parse_json_object(full, "application/json")["a"]) == (MAX_REST_BYTES - 8) // 2


# --- long strings


@pytest.mark.thorough
def test_extracted_long_texts_come_back_unchanged() -> None:
    dice = random.Random(20_261_126)  # noqa: S311
    for _ in range(60):
        value = {
            "a": _random_text(dice),
            "b": [_random_text(dice), {"c": _random_text(dice), _random_text(dice): 1}],
            "d": 1.5,
        }
        body = json.dumps(value, ensure_ascii=dice.random() < 0.5).encode()
        if dice.random() < 0.5:
            body = body.replace(b"/", b"\\/").replace(b"+", b"\\u002b")
        parsed = parse_json_object(body, "application/json")
        assert join_text(parsed["a"]) == value["a"]
        assert all(name.startswith(start) for name, start in zip(value["b"][1], parsed["b"][1], strict=True))  # type: ignore[arg-type]
        assert join_text(parsed["b"][0]) == value["b"][0]  # type: ignore[index]


def _random_text(dice: random.Random) -> str:
    letters = dice.choice(("abcdefghABCDEFGH01234567+/=", 'ab\\"\n/é', "a b,c[d]{e}:f", "👩/+"))
    size = dice.choice(
        (0, 5, MIN_LONG_TEXT_BYTES - 1, MIN_LONG_TEXT_BYTES + 1, PIECE_BYTES - 2, PIECE_BYTES + 3, 3 * PIECE_BYTES)
    )
    if set(letters) & set('\\"é👩'):
        # These stay in the rest, whose size is limited.
        size = min(size, MIN_LONG_TEXT_BYTES + 1)
    return "".join(dice.choices(letters, k=size))


@pytest.mark.parametrize("shift", range(8))
def test_escape_is_not_split_between_pieces(shift: int) -> None:
    text = "a" * (PIECE_BYTES - shift) + "+/" + "a" * (PIECE_BYTES - shift) + "+/a"
    body = json.dumps({"a": text}).replace("+", "\\u002B").replace("/", "\\/").encode()
    parsed = parse_json_object(body, "application/json")["a"]
    assert isinstance(parsed, LongText)
    assert join_text(parsed) == text


def test_lone_surrogate_in_long_text_is_rejected() -> None:
    with pytest.raises(ApiError, match="Invalid JSON"):
        parse_json_object(b'{"prompt":"' + b"a" * MIN_LONG_TEXT_BYTES + b'\\ud800"}', "application/json")


def test_longest_allowed_prompt_is_read_completely() -> None:
    for letter in ("a", "é", "👩", '"', "\\", "/"):
        prompt = letter * 32_000
        for is_ascii in (True, False):
            body = json.dumps({"prompt": prompt}, ensure_ascii=is_ascii).encode()
            assert parse_body(body, GenerationRequest).prompt == prompt
    words = "a lighthouse at dawn, ünïcode " * 1_060
    assert parse_body(json.dumps({"prompt": words}).encode(), GenerationRequest).prompt == words


@pytest.mark.parametrize("struct_class", [GenerationRequest, CreateJobRequest])
def test_only_image_params_accept_prefix_of_long_text(struct_class: type[Any]) -> None:
    """Validation sees only the prefix of a long string, so every other field must reject strings of that length."""
    unbounded = {
        path for path in _iterate_unbounded_texts(inspect.type_info(struct_class), "") if not path.startswith("image")
    }
    assert unbounded == ({"mask", "mask.image_url", "mask.b64_json"} if struct_class is CreateJobRequest else set())


def _iterate_unbounded_texts(info: inspect.Type, path: str) -> Iterator[str]:
    match info:
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from _iterate_unbounded_texts(field.type, f"{path}.{field.name}".lstrip("."))
        case inspect.UnionType(types=types):
            for kind in types:
                yield from _iterate_unbounded_texts(kind, path)
        case inspect.DictType(key_type=key, value_type=content):
            yield from _iterate_unbounded_texts(inspect.UnionType((key, content)), path)
        case inspect.VarTupleType(item_type=inner) | inspect.Metadata(type=inner):
            yield from _iterate_unbounded_texts(inner, path)
        case inspect.StrType(max_length=most) if most is None or most >= TEXT_PREFIX_BYTES * 3 // 8:
            yield path


# --- images


def test_image_is_decoded_however_json_escapes_it() -> None:
    data = random.Random(1).randbytes(MIB)  # noqa: S311
    text = base64.b64encode(data).decode()
    lines = base64.encodebytes(data).decode().replace("\n", "\\r\\n")
    for escaped in (text, lines, text.replace("/", "\\/"), text.replace("+", "\\u002B").replace("=", "\\u003d")):
        for image in ('{"b64_json":"%s"}', '"data:image/png;base64,%s"', '{"image_url":"data:,%s"}'):
            params = parse_body(b'{"prompt":"a","image":' + (image % escaped).encode() + b"}")
            [(_, image_ref)] = list_input_refs(params)
            assert image_ref.inline_base64 is not None
            pieces = iter([join_text(image_ref.inline_base64).rpartition(",")[2]])
            assert decode_base64(pieces) == data


def test_base64_in_pieces_is_as_strict_as_in_one() -> None:
    dice = random.Random(7)  # noqa: S311
    for _ in range(3_000):
        text = base64.b64encode(dice.randbytes(dice.randrange(12))).decode()
        if dice.random() < 0.5:
            position = dice.randrange(len(text) + 1)
            text = (
                text[:position]
                + dice.choice(("=", "==", "*", "A", "\n", "é", "AA=A"))
                + text[position + dice.randrange(2) :]
            )
        cuts = sorted(dice.randrange(len(text) + 1) for _ in range(3))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        # Line breaks are ignored. The library accepts padding after a complete text.
        text = text.replace("\n", "")
        expected = _decode_with_library(text) if len(text) % 4 == 0 else None
        assert _decode_or_none(pieces) == _decode_or_none([text]) == expected, text


def _decode_or_none(pieces: list[str]) -> bytes | None:
    try:
        return decode_base64(pieces)
    except ValueError:
        return None


def _decode_with_library(text: str) -> bytes | None:
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
def test_inline_images_and_urls_are_distinguished(text: str, is_inline: bool, is_address: bool) -> None:
    image_ref = InputImageRef(image_url=text)
    assert (image_ref.inline_base64 is not None, image_ref.is_url) == (is_inline, is_address)


def test_overlong_url_is_not_an_address() -> None:
    params = parse_body(b'{"prompt":"a","image":"https://' + b"a" * MIB + b'"}')
    assert not list_input_refs(params)[0][1].is_url


# --- worker thread


@pytest.mark.parametrize(("size", "is_in_thread"), [(MAX_INLINE_BYTES, False), (MAX_INLINE_BYTES + 1, True)])
def test_large_bodies_are_parsed_in_thread(size: int, is_in_thread: bool) -> None:
    thread = asyncio.run(run_off_loop(size, threading.current_thread))
    assert (thread is not threading.main_thread(), thread.name.startswith("request-parser")) == (
        is_in_thread,
        is_in_thread,
    )
