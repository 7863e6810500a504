"""Forms are read in pieces of any size; invalid and expensive ones are rejected early."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from mmap import mmap
from time import process_time

import pytest

from gateway.api.api_errors import ApiError
from gateway.api.bracketed_form_decoder import parse_form_fields
from gateway.api.file_upload_receiver import MAX_FILE_BYTES_IN_MEMORY, PIECE_BYTES, UploadedFile
from gateway.api.form_reader import (
    MAX_BOUNDARY_LENGTH,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_PARTS,
    MAX_TEXT_BYTES,
    FormField,
    encode_parts,
    is_form,
    read_form,
)
from gateway.assets.backend import StorageError
from tests.harness.form_bodies import BOUNDARY, FORM_CONTENT_TYPE, make_form, make_part
from tests.harness.sample_images import make_image

PNG = make_image(8, 8)
CHUNK_BYTES = 64 << 10
MIB = 1 << 20


class RecordingLimiter:
    """Counts the bytes that were moved to the disk."""

    def __init__(self) -> None:
        self.moved_bytes = 0

    async def move_to_disk(self, size: int) -> None:
        self.moved_bytes += size


async def iterate_chunks(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def read(
    body: bytes, content_type: str = FORM_CONTENT_TYPE, size: int = CHUNK_BYTES, limiter: RecordingLimiter | None = None
) -> list[FormField]:
    return asyncio.run(read_form(iterate_chunks(body, size), content_type, limiter or RecordingLimiter()))


def read_values(body: bytes, size: int = CHUNK_BYTES) -> list[tuple[str, str | bytes]]:
    fields = read(body, size=size)
    return [
        (field.name, bytes(field.value.data) if isinstance(field.value, UploadedFile) else field.value)
        for field in fields
    ]


def expect_error(body: bytes, code: str, status: int = 400, content_type: str = FORM_CONTENT_TYPE) -> str:
    with pytest.raises(ApiError) as raised:
        read(body, content_type)
    assert (raised.value.status, raised.value.code) == (status, code), raised.value.message
    assert len(raised.value.message) < 300
    return raised.value.message


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, CHUNK_BYTES])
def test_form_gives_the_same_fields_in_chunks_of_any_size(size: int) -> None:
    tricky = b"\r\n--the-boundar\r\n--the-boundary?"[:-16] + b"\r\r\n--\r\n-- the-boundary" + bytes(range(256))
    form = make_form(
        make_part("prompt", "a lighthouse ☀\r\n--the"),
        make_part("image[]", PNG, "Content-Type: application/octet-stream", filename="upload"),
        make_part("image[]", tricky, filename="blob"),
        make_part("n", ""),
    )
    expected = [("prompt", "a lighthouse ☀\r\n--the"), ("image[]", PNG), ("image[]", tricky), ("n", "")]
    assert read_values(form, size) == expected


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=the-boundary",
        'multipart/form-data; charset=utf-8; boundary="the-boundary"',
        "Multipart/Form-Data;BOUNDARY=the-boundary ; x=y",
    ],
)
def test_boundary_is_found_in_every_form_of_the_header(content_type: str) -> None:
    assert is_form(content_type)
    assert [field.value for field in read(make_form(make_part("n", "1")), content_type)] == ["1"]


@pytest.mark.parametrize("boundary", ["----=_Part_0_1.2", "'()+_,-./:=?", "a b", "=", "a" * 70])
def test_boundary_may_have_every_character_of_the_standard(boundary: str) -> None:
    form = make_form(make_part("n", "1"), boundary=boundary)
    content_types = [f'multipart/form-data; boundary="{boundary}"']
    if " " not in boundary:
        content_types.append(f"multipart/form-data; boundary={boundary}")
    for content_type in content_types:
        assert [field.value for field in read(form, content_type)] == ["1"], content_type


@pytest.mark.parametrize(
    "parameters",
    [
        *("", "; boundary=", '; boundary=""', '; boundary=" "', "; boundary=" + "a" * (MAX_BOUNDARY_LENGTH + 1)),
        *("; bound=a", "; boundary=é", ' boundary="a'),
    ],
)
def test_missing_or_odd_boundary_is_rejected(parameters: str) -> None:
    message = expect_error(make_form(), "invalid_form", content_type=f"multipart/form-data{parameters}")
    assert "boundary" in message


VALID = make_form(make_part("prompt", "a"), make_part("image", PNG, filename="a.png"))
BROKEN_FORMS = {
    "empty": b"",
    "blank": b"\r\n\r\n",
    "no boundary": b"prompt=a&n=1",
    "JSON": b'{"prompt": "a"}',
    "another boundary": make_form(make_part("prompt", "a"), boundary="other"),
    "truncated in a header": VALID[:40],
    "truncated in an image": VALID[:200],
    "truncated in the last boundary": VALID[:-5],
    "bytes before the boundary": b"x" + VALID,
    "bytes behind a boundary": VALID.replace(b"the-boundary\r\n", b"the-boundary2\r\n"),
    "line ends of Unix": VALID.replace(b"\r\n", b"\n"),
    "no disposition": make_form(b"Content-Type: text/plain\r\n\r\na\r\n"),
    "another disposition": make_form(b'Content-Disposition: attachment; name="n"\r\n\r\n1\r\n'),
    "no headers": make_form(b"\r\na\r\n"),
    "a header without a colon": make_form(b"nonsense\r\n\r\na\r\n"),
    "an invalid header name": make_form(b"a b: c\r\n\r\na\r\n"),
    "headers that are not UTF-8": make_form(b'Content-Disposition: form-data; name="\xff"\r\n\r\na\r\n'),
    "a text that is not UTF-8": make_form(make_part("prompt", b"\xff")),
    "a length that is wrong": make_form(make_part("n", "1", "Content-Length: 5")),
    "a length without digits": make_form(make_part("n", "1", "Content-Length: x")),
    "base64": make_form(make_part("image", "iVBORw0KGgo=", "Content-Transfer-Encoding: base64", filename="a.png")),
    "too many parts": make_form(*[make_part("n", "1")] * (MAX_PARTS + 1)),
    "too many headers": make_form(make_part("n", "1", *["X-A: b"] * MAX_HEADERS)),
    "a long header": make_form(make_part("n", "1", "X-A: " + "b" * MAX_HEADER_BYTES)),
    "a header without an end": make_form()[:-4] + b"\r\nX-A: " + b"b" * 100_000,
    "a continued header": make_form(make_part("n", "1", "X-A: b", *[" c"] * 2_000)),
}


ENDLESS_FORMS = [
    *("empty", "blank", "no boundary", "JSON", "another boundary", "truncated in a header", "truncated in an image"),
    "truncated in the last boundary",
]


@pytest.mark.parametrize("kind", BROKEN_FORMS)
def test_broken_forms_are_rejected(kind: str) -> None:
    message = expect_error(BROKEN_FORMS[kind], "invalid_form")
    assert "Error" not in message, "the message has a word of Python"
    assert ("ends before" in message) is (kind in ENDLESS_FORMS)


def test_nested_form_is_kept_as_bytes() -> None:
    inner = make_form(make_part("prompt", "inner"), boundary="inner")
    form = make_form(make_part("image", inner, "Content-Type: multipart/mixed; boundary=inner", filename="a"))
    assert read_values(form) == [("image", inner)]


def test_bytes_around_the_form_are_ignored() -> None:
    form = b"A preamble.\r\n" + make_form(make_part("n", "1")) + b"An epilogue.\r\n--the-boundary\r\n"
    for size in (1, CHUNK_BYTES):
        assert read_values(form, size) == [("n", "1")]


def test_file_in_a_text_field_is_rejected() -> None:
    for name in ("prompt", "provider[only][]", "", "imaged"):
        message = expect_error(make_form(make_part(name, PNG, filename="a.png")), "invalid_value")
        assert f"'{name}'" in message


def test_image_without_a_file_name_is_a_text_only_if_it_is_one() -> None:
    url = "https://example.com/a.png"
    form = make_form(
        make_part("image", url),
        make_part("mask", PNG),
        make_part("image", url, filename="url.txt"),
        make_part("image", "", filename=""),
    )
    assert read_values(form) == [("image", url), ("mask", PNG), ("image", url.encode()), ("image", "")]


def test_texts_are_limited_together() -> None:
    half = "a" * (MAX_TEXT_BYTES // 2)
    assert len(read(make_form(make_part("a", half), make_part("b", half)))) == 2
    expect_error(make_form(make_part("a", half), make_part("b", f"{half}a")), "body_too_large", 413)
    expect_error(
        make_form(make_part("image", half), make_part("image", half), make_part("n", "1")), "body_too_large", 413
    )


@pytest.mark.parametrize(
    ("size", "is_on_disk"),
    [(0, False), (1, False), (MAX_FILE_BYTES_IN_MEMORY, False), (MAX_FILE_BYTES_IN_MEMORY + 1, True), (5 * MIB, True)],
)
def test_large_files_are_on_the_disk(size: int, is_on_disk: bool) -> None:
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    limiter = RecordingLimiter()
    [field] = read(make_form(make_part("image", content, filename="a")), limiter=limiter)
    assert isinstance(field.value, UploadedFile)
    assert isinstance(field.value.data, mmap) is is_on_disk
    assert limiter.moved_bytes == (size if is_on_disk else 0)
    assert bytes(field.value.data) == content


def test_upload_that_the_disk_refuses_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    small = make_form(make_part("image", PNG, filename="a"))
    assert len(read(small)) == 1
    with pytest.raises(StorageError, match="/no/such/folder cannot store an uploaded file: No such file"):
        read(make_form(make_part("image", bytes(2 * MIB), filename="a")))


def test_large_form_needs_little_memory() -> None:
    pieces = [make_form(make_part("image[]", b"", filename="a"))[: -len("\r\n--the-boundary--\r\n")]]

    async def generate() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield pieces[0]
            for _ in range(4 * 16):
                yield b"\xff" * CHUNK_BYTES
            yield b"\r\n"
        yield b"--the-boundary--\r\n"

    tracemalloc.start()
    try:
        fields = asyncio.run(read_form(generate(), FORM_CONTENT_TYPE, RecordingLimiter()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [len(field.value.data) for field in fields if isinstance(field.value, UploadedFile)] == [4 * MIB] * 8
    assert peak < MAX_FILE_BYTES_IN_MEMORY + 4 * PIECE_BYTES


IMAGE_START = make_form(make_part("image", b"", filename="a"))[: -len("\r\n--the-boundary--\r\n")]
EXPENSIVE_PIECES = {
    "carriage returns": (IMAGE_START, b"\r"),
    "almost boundaries": (IMAGE_START, b"\r\n--the-boundar"),
    "almost boundaries without line ends": (IMAGE_START, b"--the-boundary"),
    "dashes": (IMAGE_START, b"-"),
    "a long preamble": (b"", b"\r\n--the-boundar"),
    "options in a header": (b"--the-boundary\r\nContent-Type: text/plain", b'; a="'),
    "options in many headers": (b"--the-boundary\r\n", b"Content-Type: a" + b'; a="' * 400 + b"\r\n"),
    "tiny parts": (b"", b"--the-boundary\r\n" + make_part("n", "")),
}


@pytest.mark.parametrize("kind", EXPENSIVE_PIECES)
def test_expensive_bodies_are_rejected_quickly(kind: str) -> None:
    start, piece = EXPENSIVE_PIECES[kind]
    body = start + piece * (8 * MIB // len(piece))
    started_at = process_time()
    expect_error(body, "invalid_form")
    assert process_time() - started_at < 1.5


def encode(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    return encode_parts(read(make_form(*parts, boundary=boundary), f"multipart/form-data; boundary={boundary}"))


PROMPT, SIZE = make_part("prompt", "a"), make_part("size", "1024x1024")
IMAGES: Sequence[bytes] = [make_part("image[]", make_image(8, size), filename=f"{size}.png") for size in (8, 9)]


def test_fingerprint_does_not_depend_on_boundary_order_or_file_names() -> None:
    same = [
        encode(PROMPT, SIZE, *IMAGES),
        encode(SIZE, PROMPT, *IMAGES, boundary="another"),
        encode(IMAGES[0], SIZE, IMAGES[1], PROMPT),
        encode(PROMPT, SIZE, IMAGES[0].replace(b"8.png", b"upload"), IMAGES[1]),
    ]
    assert len(set(same)) == 1
    large = [make_part("mask", bytes(2 * MIB) + end, filename="m") for end in (b"a", b"b", b"a")]
    assert encode(large[0]) == encode(large[2])


def test_fingerprint_depends_on_every_value() -> None:
    forms = [
        encode(PROMPT, *IMAGES),
        encode(PROMPT, *reversed(IMAGES)),
        encode(PROMPT, IMAGES[0]),
        encode(PROMPT, IMAGES[0].replace(b"image[]", b"mask")),
        encode(PROMPT),
        encode(make_part("prompt", "b")),
        encode(PROMPT, make_part("image", "uploaded file")),
        encode(PROMPT, make_part("mask", bytes(2 * MIB) + b"a", filename="m")),
        encode(PROMPT, make_part("mask", bytes(2 * MIB) + b"b", filename="m")),
    ]
    assert len(set(forms)) == len(forms)


def test_images_of_a_form_become_a_list_in_their_order() -> None:
    images = [UploadedFile.from_data(bytes([number]), str(number)) for number in range(3)]
    for names in (["image"] * 3, ["image[]"] * 3, ["image[0]", "image[1]", "image[2]"], ["image", "image[]", "image"]):
        fields = parse_form_fields(zip(names, images, strict=True))
        assert [image.data for image in fields["image"]] == [b"\0", b"\1", b"\2"], names
    fields = parse_form_fields([("image[1]", images[1]), ("image[0]", images[0])])
    assert [image.data for image in fields["image"]] == [b"\0", b"\1"]
    assert parse_form_fields([("images[0][image_url]", "a")]) == {"images": [{"image_url": "a"}]}
