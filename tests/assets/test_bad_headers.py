"""What comes instead of pictures: refused in words, quickly, and never by any other exception."""

import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.assets.headers import LONGEST_EDGE, MOST_PIXELS, NotAPicture, is_whole, read_header
from tests.assets import pictures
from tests.assets.pictures import KINDS, jpeg_frame, jpeg_segment, png_chunk, png_of, quartered, vp8x, webp_of, written

SCAN = jpeg_segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
PIXELS = png_chunk(b"IDAT", zlib.compress(b"\0" * 97))
STRANGERS = {
    "nothing at all": b"",
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
    "an AVIF, HEIC or film": b"\0\0\0\x20ftypavif\0\0\0\0",
    "nor anything else": b"\x93\0\x01\x02 what is this",
}


@pytest.mark.parametrize("word", STRANGERS)
def test_what_is_no_picture_is_called_by_its_name(word: str) -> None:
    with pytest.raises(NotAPicture, match=word.split(",")[0] if word != "nor anything else" else word):
        read_header(STRANGERS[word])


DAMAGED = {
    "png too large": png_of(50_000, 50_000, PIXELS),
    "png of many pixels": png_of(8_000, 5_001, PIXELS),
    "png of a long edge": png_of(LONGEST_EDGE + 1, 1, PIXELS),
    "png of endless size": png_of(0xFFFFFFFF, 0xFFFFFFFF, PIXELS),
    "png without width": png_of(0, 5, PIXELS),
    "png without height": png_of(5, 0, PIXELS),
    "png without pixels": png_of(5, 5, png_chunk(b"IEND", b"")),
    "png cut off before its pixels": png_of(5, 5),
    "png with an endless part": png_of(5, 5, b"\xff\xff\xff\xfftEXt"),
    "png with a wrong checksum": png_of(5, 5, PIXELS)[:29] + b"abcd" + PIXELS,
    "png for telephones": b"\x89PNG\r\n\x1a\n" + png_chunk(b"CgBI", b"\x50\0\x20\x02") + png_of(5, 5, PIXELS)[8:],
    "png of parts only": png_of(5, 5, png_chunk(b"tEXt", b"") * 5_000, PIXELS),
    "jpeg without width": b"\xff\xd8" + jpeg_frame(0, 5) + SCAN,
    "jpeg without height": b"\xff\xd8" + jpeg_frame(5, 0) + SCAN,
    "jpeg too large": b"\xff\xd8" + jpeg_frame(65_535, 65_535) + SCAN,
    "jpeg, lossless": b"\xff\xd8" + jpeg_frame(5, 5, marker=0xC3) + SCAN,
    "jpeg, arithmetic": b"\xff\xd8" + jpeg_frame(5, 5, marker=0xC9) + SCAN,
    "jpeg of 12 bits": b"\xff\xd8" + jpeg_frame(5, 5, precision=12) + SCAN,
    "jpeg without a frame": b"\xff\xd8" + SCAN,
    "jpeg without a scan": b"\xff\xd8" + jpeg_frame(5, 5),
    "jpeg that ends at once": b"\xff\xd8\xff\xd9",
    "jpeg without markers": b"\xff\xd8" + b"\0" * 100,
    "jpeg with a short frame": b"\xff\xd8" + jpeg_segment(0xC0, b"\x08\0\1") + SCAN,
    "jpeg with a part of no length": b"\xff\xd8\xff\xe0\0\0" + jpeg_frame(5, 5) + SCAN,
    "jpeg of parts only": b"\xff\xd8" + jpeg_segment(0xFE, b"") * 5_000 + jpeg_frame(5, 5) + SCAN,
    "jpeg of filling only": b"\xff\xd8" + b"\xff" * 10_000,
    "webp that moves": webp_of(vp8x(0x02, 5, 5), (b"ANIM", b"\0" * 6)),
    "webp too large": webp_of(vp8x(0, 1 << 24, 1 << 24)),
    "webp without a key frame": webp_of((b"VP8 ", b"\x01\0\0\x9d\x01\x2a\x05\0\x05\0" + b"\0" * 20)),
    "webp without width": webp_of((b"VP8 ", b"\0\0\0\x9d\x01\x2a\0\0\x05\0" + b"\0" * 20)),
    "webp without a start": webp_of((b"VP8 ", b"\0" * 30)),
    "webp, lossless, without a mark": webp_of((b"VP8L", b"\0" * 30)),
    "riff of sounds": b"RIFF\x24\0\0\0WAVEfmt " + b"\0" * 30,
    "webp of nothing known": webp_of((b"JUNK", b"\0" * 30)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_and_absurd_sizes_are_refused(name: str) -> None:
    with pytest.raises(NotAPicture):
        read_header(DAMAGED[name])


def test_the_largest_that_is_taken() -> None:
    assert read_header(png_of(8_000, 5_000, PIXELS)).width * 5_000 == MOST_PIXELS
    assert read_header(webp_of(vp8x(0, LONGEST_EDGE, 2))).width == LONGEST_EDGE


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_anywhere_it_is_read_rightly_or_refused(kind: str) -> None:
    """A prefix may do, where the size comes early: then it says the same as the whole file."""
    _, data = KINDS[kind]
    whole = read_header(data)
    refused = 0
    for length in range(min(len(data), 2_000)):
        try:
            assert read_header(data[:length]) == whole
        except NotAPicture:
            refused += 1
    assert refused >= 25


def test_moving_webp_as_pillow_writes_it_is_refused() -> None:
    frames = [quartered(), quartered().transpose(Image.Transpose.ROTATE_180)]
    with pytest.raises(NotAPicture, match="moving"):
        read_header(written(frames[0], "WEBP", save_all=True, append_images=frames[1:]))


def test_texts_never_repeat_what_was_sent() -> None:
    for data in (*STRANGERS.values(), *DAMAGED.values(), b"canary-7351" * 9, b'{"key": "canary-7351"}'):
        with pytest.raises(NotAPicture) as refused:
            read_header(data)
        assert "canary" not in str(refused.value)
        assert len(str(refused.value)) < 200


def test_files_made_to_keep_us_reading_are_refused_at_once() -> None:
    notes = jpeg_segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1\0\3\0\1\0\0\0\1\0\0\0" * 5_000)
    hostile = [
        b"\xff\xd8" + b"\xff" * 32_000_000,
        b"\xff\xd8" + notes * 500,
        b"\xff\xd8" + jpeg_segment(0xFE, b"") * 8_000_000,
        png_of(5, 5, png_chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + b"\1\0" * 100_000) * 200),
        png_of(5, 5, png_chunk(b"tEXt", b"") * 2_000_000),
        webp_of(vp8x(0x08, 5, 5), *[(b"JUNK", b"")] * 500_000),
    ]
    begun = time.thread_time()
    for data in hostile:
        try:
            is_whole(data, read_header(data))
        except NotAPicture:
            continue
    assert time.thread_time() - begun < 0.5


HEADS = st.sampled_from(
    [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP", b"II*\0", b"<"]
)


def look(data: bytes) -> None:
    try:
        header = read_header(data)
    except NotAPicture:
        return
    assert header.width * header.height <= MOST_PIXELS
    assert header.width > 0 < header.height
    assert is_whole(data, header) in (True, False)


@settings(max_examples=400, deadline=None)
@given(HEADS, st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(head: bytes, rest: bytes) -> None:
    look(head + rest)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_any_damage_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(KINDS[kind][1][:3_000])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged) - 1, 200)))] = data.draw(st.integers(0, 255))
    look(bytes(damaged))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=8))
def test_any_segments_are_read_or_refused(segments: list[tuple[int, bytes]]) -> None:
    look(b"\xff\xd8" + b"".join(jpeg_segment(*segment) for segment in segments) + pictures.jpeg_frame(9, 9) + SCAN)
