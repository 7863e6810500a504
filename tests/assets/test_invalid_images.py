"""Files that are not images: rejected quickly, with a description, and never by another exception."""

import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.assets.image_header import MAX_EDGE_PIXELS, MAX_PIXELS, InvalidImage, is_complete, read_header
from tests.harness import image_bytes
from tests.harness.image_bytes import (
    SAMPLE_IMAGES,
    encode_image,
    make_jpeg_frame,
    make_jpeg_segment,
    make_png,
    make_png_chunk,
    make_quadrant_image,
    make_vp8x_chunk,
    make_webp,
)

SCAN = make_jpeg_segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
PIXEL_CHUNK = make_png_chunk(b"IDAT", zlib.compress(b"\0" * 97))
OTHER_FORMATS = {
    "an empty file": b"",
    "an HTML page": b"  \r\n<!DOCTYPE html>\n<title>404</title>",
    "an HTML page, marked": b"\xef\xbb\xbf<html lang=en><p>Sign in",
    "an SVG drawing": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>',
    "an SVG drawing, bare": b"<svg onload=1 />",
    "XML or HTML": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "JSON": b' {"error": "expired"}',
    "a GIF": b"GIF89a\x10\0\x10\0\x80\0\0",
    "a BMP": b"BM\x36\0\0\0",
    "a TIFF": b"II*\0\x08\0\0\0",
    "a PDF": b"%PDF-1.7",
    "gzip": b"\x1f\x8b\x08\0",
    "a zip archive": b"PK\x03\x04",
    "an AVIF, HEIC or video": b"\0\0\0\x20ftypavif\0\0\0\0",
    "the format is unknown": b"\x93\0\x01\x02 what is this",
}


@pytest.mark.parametrize("description", OTHER_FORMATS)
def test_non_image_is_rejected_with_its_format_named(description: str) -> None:
    with pytest.raises(InvalidImage, match=description.split(",")[0]):
        read_header(OTHER_FORMATS[description])


DAMAGED_IMAGES = {
    "png too large": make_png(50_000, 50_000, PIXEL_CHUNK),
    "png of many pixels": make_png(8_000, 5_001, PIXEL_CHUNK),
    "png of a long edge": make_png(MAX_EDGE_PIXELS + 1, 1, PIXEL_CHUNK),
    "png of endless size": make_png(0xFFFFFFFF, 0xFFFFFFFF, PIXEL_CHUNK),
    "png without width": make_png(0, 5, PIXEL_CHUNK),
    "png without height": make_png(5, 0, PIXEL_CHUNK),
    "png without pixels": make_png(5, 5, make_png_chunk(b"IEND", b"")),
    "png cut off before its pixels": make_png(5, 5),
    "png with an endless part": make_png(5, 5, b"\xff\xff\xff\xfftEXt"),
    "png with a wrong checksum": make_png(5, 5, PIXEL_CHUNK)[:29] + b"abcd" + PIXEL_CHUNK,
    "png for telephones": b"\x89PNG\r\n\x1a\n"
    + make_png_chunk(b"CgBI", b"\x50\0\x20\x02")
    + make_png(5, 5, PIXEL_CHUNK)[8:],
    "png of parts only": make_png(5, 5, make_png_chunk(b"tEXt", b"") * 5_000, PIXEL_CHUNK),
    "jpeg without width": b"\xff\xd8" + make_jpeg_frame(0, 5) + SCAN,
    "jpeg without height": b"\xff\xd8" + make_jpeg_frame(5, 0) + SCAN,
    "jpeg too large": b"\xff\xd8" + make_jpeg_frame(65_535, 65_535) + SCAN,
    "jpeg, lossless": b"\xff\xd8" + make_jpeg_frame(5, 5, marker=0xC3) + SCAN,
    "jpeg, arithmetic": b"\xff\xd8" + make_jpeg_frame(5, 5, marker=0xC9) + SCAN,
    "jpeg of 12 bits": b"\xff\xd8" + make_jpeg_frame(5, 5, precision=12) + SCAN,
    "jpeg without a frame": b"\xff\xd8" + SCAN,
    "jpeg without a scan": b"\xff\xd8" + make_jpeg_frame(5, 5),
    "jpeg that ends at once": b"\xff\xd8\xff\xd9",
    "jpeg without markers": b"\xff\xd8" + b"\0" * 100,
    "jpeg with a short frame": b"\xff\xd8" + make_jpeg_segment(0xC0, b"\x08\0\1") + SCAN,
    "jpeg with a part of no length": b"\xff\xd8\xff\xe0\0\0" + make_jpeg_frame(5, 5) + SCAN,
    "jpeg of parts only": b"\xff\xd8" + make_jpeg_segment(0xFE, b"") * 5_000 + make_jpeg_frame(5, 5) + SCAN,
    "jpeg of filling only": b"\xff\xd8" + b"\xff" * 10_000,
    "webp that moves": make_webp(make_vp8x_chunk(0x02, 5, 5), (b"ANIM", b"\0" * 6)),
    "webp too large": make_webp(make_vp8x_chunk(0, 1 << 24, 1 << 24)),
    "webp without a key frame": make_webp((b"VP8 ", b"\x01\0\0\x9d\x01\x2a\x05\0\x05\0" + b"\0" * 20)),
    "webp without width": make_webp((b"VP8 ", b"\0\0\0\x9d\x01\x2a\0\0\x05\0" + b"\0" * 20)),
    "webp without a start": make_webp((b"VP8 ", b"\0" * 30)),
    "webp, lossless, without a mark": make_webp((b"VP8L", b"\0" * 30)),
    "riff of sounds": b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 30,
    "webp of nothing known": make_webp((b"JUNK", b"\0" * 30)),
}


@pytest.mark.parametrize("name", DAMAGED_IMAGES)
def test_damaged_and_oversized_images_are_rejected(name: str) -> None:
    with pytest.raises(InvalidImage):
        read_header(DAMAGED_IMAGES[name])


def test_largest_allowed_image_is_accepted() -> None:
    assert read_header(make_png(8_000, 5_000, PIXEL_CHUNK)).width * 5_000 == MAX_PIXELS
    assert read_header(make_webp(make_vp8x_chunk(0, MAX_EDGE_PIXELS, 2))).width == MAX_EDGE_PIXELS


@pytest.mark.parametrize("kind", SAMPLE_IMAGES)
def test_truncated_image_is_read_correctly_or_rejected(kind: str) -> None:
    """A prefix may be enough if the size comes early: then its header equals that of the whole file."""
    _, data = SAMPLE_IMAGES[kind]
    complete_header = read_header(data)
    rejections = 0
    for length in range(min(len(data), 2_000)):
        try:
            assert read_header(data[:length]) == complete_header
        except InvalidImage:
            rejections += 1
    assert rejections >= 25


def test_animated_webp_is_rejected() -> None:
    frames = [make_quadrant_image(), make_quadrant_image().transpose(Image.Transpose.ROTATE_180)]
    with pytest.raises(InvalidImage, match="animated"):
        read_header(encode_image(frames[0], "WEBP", save_all=True, append_images=frames[1:]))


def test_error_messages_do_not_repeat_input() -> None:
    for data in (*OTHER_FORMATS.values(), *DAMAGED_IMAGES.values(), b"canary-7351" * 9, b'{"key": "canary-7351"}'):
        with pytest.raises(InvalidImage) as error_info:
            read_header(data)
        assert "canary" not in str(error_info.value)
        assert len(str(error_info.value)) < 200


def test_malicious_files_are_rejected_quickly() -> None:
    exif_segment = make_jpeg_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1\0\3\0\1\0\0\0\1\0\0\0" * 5_000)
    hostile = [
        b"\xff\xd8" + b"\xff" * 32_000_000,
        b"\xff\xd8" + exif_segment * 500,
        b"\xff\xd8" + make_jpeg_segment(0xFE, b"") * 8_000_000,
        make_png(5, 5, make_png_chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + b"\1\0" * 100_000) * 200),
        make_png(5, 5, make_png_chunk(b"tEXt", b"") * 2_000_000),
        make_webp(make_vp8x_chunk(0x08, 5, 5), *[(b"JUNK", b"")] * 500_000),
    ]
    started = time.thread_time()
    for data in hostile:
        try:
            is_complete(data, read_header(data))
        except InvalidImage:
            continue
    assert time.thread_time() - started < 0.5


MAGIC_BYTES = st.sampled_from(
    [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP", b"II*\0", b"<"]
)


def read_or_reject(data: bytes) -> None:
    try:
        header = read_header(data)
    except InvalidImage:
        return
    assert header.width * header.height <= MAX_PIXELS
    assert header.width > 0 < header.height
    assert is_complete(data, header) in (True, False)


@settings(max_examples=400)
@given(MAGIC_BYTES, st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_rejected(head: bytes, rest: bytes) -> None:
    read_or_reject(head + rest)


@settings(max_examples=600)
@given(st.sampled_from(sorted(SAMPLE_IMAGES)), st.data())
def test_arbitrary_damage_is_read_or_rejected(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(SAMPLE_IMAGES[kind][1][:3_000])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged) - 1, 200)))] = data.draw(st.integers(0, 255))
    read_or_reject(bytes(damaged))


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=8))
def test_arbitrary_jpeg_segments_are_read_or_rejected(segments: list[tuple[int, bytes]]) -> None:
    read_or_reject(
        b"\xff\xd8"
        + b"".join(make_jpeg_segment(*segment) for segment in segments)
        + image_bytes.make_jpeg_frame(9, 9)
        + SCAN
    )
