"""Image data of input images: damaged data is found before the order, whatever the header says; nothing valid is
refused, and no image takes long."""

import asyncio
import random
import struct
import tempfile
import time
import zlib
from mmap import ACCESS_READ, mmap

import pytest
from PIL import Image

from gateway.assets.image_data_check import MAX_WEBP_PIXELS, check_image_data
from gateway.assets.image_header import InvalidImage, read_header
from gateway.assets.jpeg_scan_check import MAX_SCANS
from gateway.assets.png_data_check import MAX_CHUNKS
from tests.harness.image_bytes import (
    SAMPLE_IMAGES,
    decode_image,
    encode_image,
    make_png,
    make_png_chunk,
    make_quadrant_image,
)

IMAGE_END = make_png_chunk(b"IEND", b"")
SIZE = (64, 48)
# The same in each run: damage must not write the byte that is there.
RANDOM = random.Random(1)  # noqa: S311
ROWS = b"".join(b"\1" + RANDOM.randbytes(SIZE[0] * 3) for _ in range(SIZE[1]))
COMPRESSED = zlib.compress(ROWS)


def check(data: bytes | mmap) -> None:
    asyncio.run(check_image_data(data, read_header(data)))


def make_png_of(*image_data: bytes, end: bytes = IMAGE_END) -> bytes:
    return make_png(*SIZE, *(make_png_chunk(b"IDAT", content) for content in image_data), end)


def make_typed_png(depth: int, colour_type: int, rows: bytes, *chunks: bytes, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", *SIZE, depth, colour_type, 0, 0, interlace)
    image_data = make_png_chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join((make_png_chunk(b"IHDR", header), *chunks, image_data, IMAGE_END))


def make_interlaced_rows() -> bytes:
    rows = []
    for left, top, right, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)):
        columns, count = len(range(left, SIZE[0], right)), len(range(top, SIZE[1], down))
        rows += [b"\0" + bytes(columns * 3)] * count
    return b"".join((*rows, *[b"\0" + bytes(SIZE[0] * 3)] * len(range(1, SIZE[1], 2))))


@pytest.mark.parametrize("name", SAMPLE_IMAGES)
def test_usual_images_are_accepted(name: str) -> None:
    check(SAMPLE_IMAGES[name][1])


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 5), (5, 3), (333, 217), (2_000, 1)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_of_every_type_and_size_is_accepted(mode: str, size: tuple[int, int]) -> None:
    check(encode_image(Image.new(mode, size), "PNG"))


VALID_PNGS = {
    "several chunks": make_png_of(COMPRESSED[:9], b"", COMPRESSED[9:10], COMPRESSED[10:]),
    "bytes after the last row": make_png_of(zlib.compress(ROWS + b"more")),
    "bytes after the stream": make_png_of(COMPRESSED + b"more"),
    "interlaced": make_typed_png(8, 2, make_interlaced_rows(), interlace=1),
    "text after the pixels": make_png_of(COMPRESSED, end=make_png_chunk(b"tEXt", b"a\0b") + IMAGE_END),
    "a wrong checksum of a text": make_png_of(COMPRESSED, end=make_png_chunk(b"tEXt", b"a\0b")[:-1] + b"x" + IMAGE_END),
    "bytes after the end": make_png_of(COMPRESSED) + b"<script>" * 100,
}
DAMAGED_PNGS = {
    "no compression": make_png_of(b"notzlib" * 10),
    "no data": make_png_of(b""),
    "a truncated stream": make_png_of(COMPRESSED[:-500]),
    "a stream without its checksum's last byte and a row": make_png_of(zlib.compress(ROWS[:-1])),
    "rows missing": make_png_of(zlib.compress(ROWS[: len(ROWS) // 2])),
    "a wrong checksum": make_png_of(COMPRESSED).replace(COMPRESSED[40:60], COMPRESSED[40:59] + b"\0"),
    "a wrong checksum of valid data": make_png_of(COMPRESSED)[: -len(IMAGE_END) - 1] + b"?" + IMAGE_END,
    "a flipped byte with a right checksum": make_png_of(COMPRESSED[:50] + b"\0\0\0\0" + COMPRESSED[54:]),
    "an unknown filter": make_png_of(zlib.compress(b"\7" + ROWS[1:])),
    "an unknown filter in the last row": make_png_of(zlib.compress(ROWS[: -SIZE[0] * 3 - 1] + b"\5" + bytes(192))),
    "a chunk that is longer than the file": make_png(
        *SIZE, struct.pack(">I", 1 << 31) + b"IDAT" + COMPRESSED, IMAGE_END
    ),
    "no palette": make_typed_png(8, 3, bytes((SIZE[0] + 1) * SIZE[1])),
    "an impossible depth": make_typed_png(3, 2, ROWS),
    "an impossible colour type": make_typed_png(8, 5, ROWS),
    "an unknown interlace method": make_typed_png(8, 2, ROWS, interlace=2),
    "an incomplete interlaced image": make_typed_png(8, 2, make_interlaced_rows()[:-1], interlace=1),
}


@pytest.mark.parametrize("name", VALID_PNGS)
def test_unusual_valid_png_is_accepted(name: str) -> None:
    check(VALID_PNGS[name])


@pytest.mark.parametrize("name", DAMAGED_PNGS)
def test_damaged_png_is_rejected(name: str) -> None:
    with pytest.raises(InvalidImage, match="a PNG"):
        check(DAMAGED_PNGS[name])


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_damage_is_found_where_a_decoder_finds_it(format: str) -> None:
    """Random damage, with wrong checksums in a PNG: the check and Pillow agree."""
    draw, verdicts = random.Random(7), set()  # noqa: S311
    data = encode_image(Image.frombytes("RGB", SIZE, draw.randbytes(SIZE[0] * SIZE[1] * 3)).resize((150, 100)), format)
    for _ in range(60):
        start = draw.randrange(len(data) // 2, len(data) - 20)
        damaged = data[:start] + draw.choice((b"", bytes(8), draw.randbytes(4))) + data[start + draw.choice((4, 8)) :]
        verdicts.add((is_accepted(damaged), is_decodable(damaged)))
    assert verdicts <= {(True, True), (False, False)}
    assert (format == "JPEG") or (False, False) in verdicts


def is_accepted(data: bytes) -> bool:
    try:
        check(data)
    except InvalidImage:
        return False
    return True


def is_decodable(data: bytes) -> bool:
    try:
        decode_image(data)
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def test_jpeg_without_its_tables_is_rejected() -> None:
    jpeg = encode_image(make_quadrant_image(), "JPEG")
    with pytest.raises(InvalidImage, match="damaged"):
        check(jpeg.replace(b"\xff\xdb", b"\xff\xfe"))


def test_lossless_webp_of_zeros_is_rejected() -> None:
    webp = encode_image(make_quadrant_image(), "WEBP", lossless=True)
    with pytest.raises(InvalidImage, match="damaged"):
        check(webp[:30] + bytes(len(webp) - 30))


def test_image_in_a_mapped_file_can_be_closed_afterwards() -> None:
    for name in ("png", "jpeg", "webp"):
        with tempfile.TemporaryFile() as file:
            file.write(SAMPLE_IMAGES[name][1])
            file.flush()
            with mmap(file.fileno(), 0, access=ACCESS_READ) as data:
                check(data)


def make_scan_bomb() -> bytes:
    jpeg = encode_image(Image.new("RGB", (6_000, 6_000)), "JPEG", progressive=True)
    last_scan = jpeg.rfind(b"\xff\xda")
    return jpeg[:last_scan] + jpeg[last_scan:-2] * (MAX_SCANS + 1) + jpeg[-2:]


BOMBS = {
    "a png of empty chunks": lambda: make_png(*SIZE) + make_png_chunk(b"IDAT", b"") * (MAX_CHUNKS + 1) + IMAGE_END,
    "a png that decompresses to more than its size": lambda: make_png_of(zlib.compress(b"\7" + bytes(50 << 20), 1)),
    "a jpeg of many scans": make_scan_bomb,
    "a jpeg of many segments": lambda: make_segment_bomb(),
}


def make_segment_bomb() -> bytes:
    jpeg = encode_image(make_quadrant_image(), "JPEG", progressive=True)
    last_scan = jpeg.rfind(b"\xff\xda")
    return jpeg[:last_scan] + b"\xff\xfe\0\2" * 5_000_000 + jpeg[last_scan:]


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_rejected_quickly(name: str) -> None:
    data = BOMBS[name]()
    started_at = time.thread_time()
    with pytest.raises(InvalidImage):
        check(data)
    assert time.thread_time() - started_at < 1


def test_event_loop_runs_while_a_large_image_is_checked() -> None:
    data = encode_image(Image.new("RGB", (6_000, 6_000)), "PNG", compress_level=1)

    async def count_turns() -> int:
        task, turns = asyncio.create_task(check_image_data(data, read_header(data))), 0
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        await task
        return turns

    assert asyncio.run(count_turns()) > 10


def test_huge_webp_is_not_decoded() -> None:
    """Decoding it would take more than half a gigabyte."""
    width = 8_192
    webp = bytearray(encode_image(Image.new("RGB", (width, MAX_WEBP_PIXELS // width)), "WEBP", lossless=True))
    webp[40:] = bytes(len(webp) - 40)
    with pytest.raises(InvalidImage):
        check(bytes(webp))
    taller = encode_image(Image.new("RGB", (width, MAX_WEBP_PIXELS // width + 1)), "WEBP", lossless=True)
    check(taller[:40] + bytes(len(taller) - 40))
