"""Headers of real images: parsed as Pillow parses them, and truncated files are detected."""

from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest
from PIL import Image

from gateway.assets import image_header
from gateway.assets.image_header import ImageHeader, InvalidImage, is_complete, read_header
from providers.orders import Format
from tests.harness import image_bytes
from tests.harness.image_bytes import (
    HEIGHT,
    SAMPLE_IMAGES,
    WIDTH,
    decode_image,
    encode_image,
    make_exif,
    make_quadrant_image,
)
from tests.harness.image_model import FORMATS

ODD_SIZES = [(1, 1), (1, 7), (255, 256), (257, 3), (1023, 1025), (4096, 17), (16_383, 1)]


@pytest.mark.parametrize("kind", SAMPLE_IMAGES)
def test_format_and_size_are_read(kind: str) -> None:
    format, data = SAMPLE_IMAGES[kind]
    header = read_header(data)
    assert (header.format, header.width, header.height, header.frames) == (format, WIDTH, HEIGHT, 1)
    assert header.has_alpha is decode_image(data).has_transparency_data
    assert header.stored_size == decode_image(data).size
    assert is_complete(data, header)


@pytest.mark.parametrize("kind", SAMPLE_IMAGES)
def test_map_of_a_file_has_the_header_of_its_bytes(kind: str, tmp_path: Path) -> None:
    data = SAMPLE_IMAGES[kind][1]
    path = tmp_path / "upload"
    path.write_bytes(data)
    with path.open("rb") as file:
        mapped_data = mmap(file.fileno(), 0, access=ACCESS_READ)
    assert read_header(mapped_data) == read_header(data)
    assert is_complete(mapped_data, read_header(data))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_any_size_is_read(format: Format, size: tuple[int, int]) -> None:
    data = encode_image(image_bytes.make_quadrant_image(*size), format)
    assert read_header(data) == ImageHeader(format, *size)


def test_lossless_webp_of_any_size_is_read() -> None:
    for size in ODD_SIZES:
        assert read_header(encode_image(make_quadrant_image(*size), "WEBP", lossless=True)) == ImageHeader(
            Format.WEBP, *size
        )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", FORMATS)
def test_rotated_image_has_displayed_size(format: Format, orientation: int) -> None:
    data = encode_image(make_quadrant_image(), format, exif=make_exif(orientation))
    header = read_header(data)
    displayed_size = (HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT)
    assert (header.width, header.height, header.orientation) == (*displayed_size, orientation)
    assert header.stored_size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_exif_byte_orders_are_read(order: str) -> None:
    tags = Image.Exif()
    tags.endian = order
    tags[0x0112] = 6
    assert read_header(encode_image(make_quadrant_image(), "JPEG", exif=tags.tobytes())).orientation == 6


@pytest.mark.parametrize(
    "notes",
    [
        b"",
        b"II",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06",
        b"XX*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0",
    ],
)
def test_broken_exif_is_ignored(notes: bytes) -> None:
    data = (
        b"\xff\xd8"
        + image_bytes.make_jpeg_segment(0xE1, b"Exif\0\0" + notes)
        + encode_image(make_quadrant_image(), "JPEG")[2:]
    )
    assert read_header(data) == ImageHeader(Format.JPEG, WIDTH, HEIGHT)


def test_jpeg_padding_and_unknown_segments_are_skipped() -> None:
    plain = encode_image(make_quadrant_image(), "JPEG")
    for number in (0xE1, 0xE2, 0xEB, 0xEF, 0xFE):
        data = (
            b"\xff\xd8"
            + b"\xff" * 9
            + image_bytes.make_jpeg_segment(number, b"\xff\xc0\0\x0b\x08\0\1\0\1" * 9)
            + plain[2:]
        )
        assert read_header(data) == ImageHeader(Format.JPEG, WIDTH, HEIGHT)


def test_only_first_bytes_are_needed() -> None:
    for kind, (format, data) in SAMPLE_IMAGES.items():
        if "large" not in kind and format is not Format.PNG:
            assert read_header(data[:4096]) == read_header(data)


@pytest.mark.parametrize("kind", SAMPLE_IMAGES)
def test_truncated_file_is_incomplete(kind: str) -> None:
    _, data = SAMPLE_IMAGES[kind]
    header = read_header(data)
    for length in {*range(max(0, len(data) - 40), len(data)), len(data) // 2, 12, 0}:
        assert not is_complete(data[:length], header), length


@pytest.mark.parametrize("kind", [kind for kind, (format, _) in SAMPLE_IMAGES.items() if format is not Format.WEBP])
def test_trailing_bytes_do_not_make_image_incomplete(kind: str) -> None:
    _, data = SAMPLE_IMAGES[kind]
    assert is_complete(data + b"\0" * 5_000, read_header(data))


def test_embedded_thumbnail_end_is_not_image_end() -> None:
    """Cameras embed a thumbnail in the metadata of a JPEG, and drawing programs in that of a PNG."""
    thumbnail = encode_image(make_quadrant_image(16, 16), "JPEG")
    jpeg = (
        b"\xff\xd8"
        + image_bytes.make_jpeg_segment(0xE1, b"Exif\0\0" + thumbnail)
        + encode_image(make_quadrant_image(), "JPEG")[2:]
    )
    plain = encode_image(make_quadrant_image(), "PNG")
    png = plain[:33] + image_bytes.make_png_chunk(b"caBX", plain) + plain[33:]
    for data in (jpeg, png):
        header = read_header(data)
        assert is_complete(data, header)
        assert not is_complete(data[:-4], header)


def test_format_is_read_from_bytes() -> None:
    """A JPEG is detected by its bytes: the function has no argument for a declared type."""
    assert read_header(SAMPLE_IMAGES["jpeg"][1]).format is Format.JPEG
    with pytest.raises(InvalidImage, match="an HTML page"):
        read_header(b"<html><body>502 Bad Gateway</body></html>")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("size", range(1, 30))
def test_end_marker_is_found_across_block_boundaries(kind: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_header, "_SEARCH_BLOCK_BYTES", size)
    data = encode_image(make_quadrant_image(), kind)
    header = read_header(data)
    assert is_complete(data, header)
    assert is_complete(data + b"trailing", header)
    assert not is_complete(data[:-1], header)
