"""Conversion of every kind of image into every format: visually the same, upright; broken ones are rejected."""

import asyncio
import threading
import time
import zlib
from functools import cache

import pytest
from PIL import Image, ImageOps

from gateway.assets import image_conversion
from gateway.assets.image_conversion import MAX_CONCURRENT_CONVERSIONS, convert_image
from gateway.assets.image_header import ImageHeader, InvalidImage, is_complete, read_header
from providers.orders import Format
from tests.harness import image_bytes
from tests.harness.image_bytes import (
    HEIGHT,
    SAMPLE_IMAGES,
    SRGB_PROFILE,
    WIDTH,
    are_colours_close,
    decode_image,
    encode_image,
    make_exif,
    make_half_transparent_image,
    make_quadrant_image,
    read_corners,
)
from tests.harness.image_model import FORMATS

WHITE, BLUE = (255, 255, 255), (0, 0, 255)
TRANSPARENT_IMAGES = ["png, palette with a hole", "webp, alpha", "webp, lossless alpha"]


def convert_to(data: bytes, target_format: Format, header: ImageHeader | None = None) -> bytes:
    return asyncio.run(convert_image(data, header or read_header(data), target_format))


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.parametrize("kind", [kind for kind in SAMPLE_IMAGES if kind not in TRANSPARENT_IMAGES])
def test_every_format_converts_to_every_other_and_looks_the_same(kind: str, target_format: Format) -> None:
    data = SAMPLE_IMAGES[kind][1]
    result = convert_to(data, target_format)
    header = read_header(result)
    assert (header.format, header.width, header.height) == (target_format, WIDTH, HEIGHT)
    assert is_complete(result, header)
    image = decode_image(result)
    assert image.format == target_format.upper()
    # Pillow displays all 16-bit values as white.
    expected = SAMPLE_IMAGES["png, grey"][1] if "16 bits" in kind and target_format is not Format.PNG else data
    assert are_colours_close(read_corners(image), read_corners(decode_image(expected)))


@pytest.mark.parametrize("format", FORMATS)
def test_image_in_requested_format_is_unchanged(format: Format) -> None:
    data = encode_image(make_quadrant_image(), format, exif=make_exif(6))
    assert convert_to(data, format) is data
    garbage = b"not even looked at"
    assert convert_to(garbage, format, ImageHeader(format, 1, 1)) is garbage


@pytest.mark.parametrize("kind", [*TRANSPARENT_IMAGES, "png, alpha"])
def test_transparency_becomes_white_in_jpeg(kind: str) -> None:
    data = encode_image(make_half_transparent_image(), "PNG") if kind == "png, alpha" else SAMPLE_IMAGES[kind][1]
    image = decode_image(convert_to(data, Format.JPEG))
    assert image.mode == "RGB"
    assert are_colours_close(read_corners(image), [WHITE, BLUE, WHITE, BLUE])


@pytest.mark.parametrize("kind", TRANSPARENT_IMAGES)
def test_transparency_is_kept_in_png_and_webp(kind: str) -> None:
    format, data = SAMPLE_IMAGES[kind]
    image = decode_image(convert_to(data, Format.WEBP if format is Format.PNG else Format.PNG))
    assert image.mode == "RGBA"
    assert [image.getpixel((4, 4))[3], image.getpixel((WIDTH - 5, 4))[3]] == [0, 255]  # type: ignore[index]


def test_half_transparent_grey_is_blended_with_white() -> None:
    image = Image.new("LA", (32, 32), (0, 128))
    colours = read_corners(decode_image(convert_to(encode_image(image, "PNG"), Format.JPEG)))
    assert are_colours_close(colours, [(127, 127, 127)] * 4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", FORMATS)
def test_exif_orientation_is_applied(format: Format, orientation: int) -> None:
    data = encode_image(
        make_quadrant_image(), format, exif=make_exif(orientation), **({"quality": 95} if format is Format.JPEG else {})
    )
    expected = ImageOps.exif_transpose(decode_image(data))
    for target_format in set(FORMATS) - {format}:
        result = convert_to(data, target_format)
        image = decode_image(result)
        assert image.size == expected.size
        assert are_colours_close(read_corners(image), read_corners(expected))
        assert read_header(result).orientation == 1


@pytest.mark.parametrize("note", ["exif", "xmp"])
def test_no_orientation_metadata_is_left(note: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    data = encode_image(make_quadrant_image(), "JPEG", **({"exif": make_exif(6)} if note == "exif" else {"xmp": xmp}))
    for target_format in (Format.PNG, Format.WEBP):
        image = decode_image(convert_to(data, target_format))
        assert not {"exif", "xmp", "XML:com.adobe.xmp"} & image.info.keys()
        assert image.size == ((HEIGHT, WIDTH) if note == "exif" else (WIDTH, HEIGHT))


@pytest.mark.parametrize("target_format", FORMATS)
@pytest.mark.parametrize("format", FORMATS)
def test_colour_profile_is_kept(format: Format, target_format: Format) -> None:
    data = encode_image(make_quadrant_image(), format, icc_profile=SRGB_PROFILE)
    assert decode_image(convert_to(data, target_format)).info["icc_profile"] == SRGB_PROFILE


def test_cmyk_profile_is_dropped() -> None:
    """A profile for inks would change the colours of the screen."""
    cmyk_profile = SRGB_PROFILE[:16] + b"CMYK" + SRGB_PROFILE[20:]
    data = encode_image(make_quadrant_image(mode="CMYK"), "JPEG", icc_profile=cmyk_profile)
    assert "icc_profile" not in decode_image(convert_to(data, Format.PNG)).info


def test_jpeg_keeps_full_colour_resolution() -> None:
    """Red dots on blue: at half the colour resolution they would vanish."""
    image = Image.new("RGB", (64, 64), BLUE)
    for x in range(0, 64, 2):
        for y in range(64):
            image.putpixel((x, y), (255, 0, 0))
    result = decode_image(convert_to(encode_image(image, "PNG"), Format.JPEG))
    assert are_colours_close([result.getpixel((32, 32)), result.getpixel((33, 32))], [(255, 0, 0), BLUE], tolerance=40)  # type: ignore[list-item]


def test_png_is_lossless() -> None:
    data = encode_image(make_quadrant_image(), "WEBP", lossless=True)
    assert decode_image(convert_to(data, Format.PNG)).tobytes() == make_quadrant_image().tobytes()


@cache
def pack_100_mb() -> bytes:
    """Makes more than Pillow decompresses, and enough to fill the memory."""
    return zlib.compress(bytes(100_000_000))


OVERSIZED_CHUNKS = {
    "packed text": lambda: image_bytes.make_png_chunk(b"zTXt", b"prompt\0\0" + pack_100_mb()),
    "packed text in any tongue": lambda: image_bytes.make_png_chunk(b"iTXt", b"prompt\0\1\0\0\0" + pack_100_mb()),
    "plain text": lambda: image_bytes.make_png_chunk(b"tEXt", b"prompt\0" + b"x" * 70_000_000),
    "a profile": lambda: image_bytes.make_png_chunk(b"iCCP", b"colours\0\0" + pack_100_mb()),
    "text with a wrong checksum": lambda: image_bytes.make_png_chunk(b"tEXt", b"prompt\0x")[:-1] + b"?",
}
PNG_HEADER_BYTES, PNG_END_BYTES = 33, 12


@pytest.mark.parametrize("is_before", [True, False], ids=["before the pixels", "after them"])
@pytest.mark.parametrize("note", OVERSIZED_CHUNKS)
def test_oversized_metadata_does_not_affect_conversion(note: str, is_before: bool) -> None:
    """Sellers write prompts, workflows and signatures into text chunks; the pixels are valid all the same."""
    plain = encode_image(make_quadrant_image(), "PNG")
    position = PNG_HEADER_BYTES if is_before else len(plain) - PNG_END_BYTES
    data = plain[:position] + OVERSIZED_CHUNKS[note]() + plain[position:]
    for target_format in (Format.JPEG, Format.WEBP):
        assert convert_to(data, target_format) == convert_to(plain, target_format)


def test_truncated_metadata_is_rejected() -> None:
    plain = encode_image(make_quadrant_image(), "PNG")
    with pytest.raises(InvalidImage):
        convert_to(plain[:PNG_HEADER_BYTES] + OVERSIZED_CHUNKS["plain text"]()[:1_000], Format.JPEG, read_header(plain))


def make_broken_images() -> dict[str, tuple[ImageHeader, bytes]]:
    cases = {}
    for kind, (_, data) in SAMPLE_IMAGES.items():
        header = read_header(data)
        cases[f"{kind}, cut in half"] = header, data[: len(data) * 6 // 10]
    pixels = image_bytes.make_png_chunk(b"IDAT", zlib.compress(b"\0" * 97))
    hollow_png = image_bytes.make_png(6_000, 6_000, pixels, image_bytes.make_png_chunk(b"IEND", b""))
    return cases | {
        "png with too few pixels": (read_header(hollow_png), hollow_png),
        "jpeg called png": (ImageHeader(Format.PNG, WIDTH, HEIGHT), SAMPLE_IMAGES["jpeg"][1]),
        "gif called png": (ImageHeader(Format.PNG, WIDTH, HEIGHT), encode_image(make_quadrant_image(), "GIF")),
        "postscript called jpeg": (ImageHeader(Format.JPEG, WIDTH, HEIGHT), b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        "another size than the header's": (ImageHeader(Format.PNG, 5, 5), SAMPLE_IMAGES["png"][1]),
        "larger than is ever handled": (ImageHeader(Format.PNG, 5, 5), image_bytes.make_png(50_000, 50_000, pixels)),
        "nothing": (ImageHeader(Format.WEBP, 5, 5), b""),
    }


BROKEN_IMAGES = make_broken_images()


@pytest.mark.parametrize("name", BROKEN_IMAGES)
def test_broken_image_is_rejected_with_clear_message(name: str) -> None:
    header, data = BROKEN_IMAGES[name]
    target_format = Format.PNG if header.format is not Format.PNG else Format.JPEG
    with pytest.raises(InvalidImage) as error_info:
        convert_to(data, target_format, header)
    assert error_info.value.__cause__ is None
    assert "object at 0x" not in str(error_info.value)


def test_at_most_two_conversions_run_and_event_loop_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    running, max_running, lock = 0, 0, threading.Lock()

    def convert_slowly(data: bytes, header: ImageHeader, target_format: Format, quality: int | None) -> bytes:
        nonlocal running, max_running
        with lock:
            running += 1
            max_running = max(max_running, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return data

    monkeypatch.setattr(image_conversion, "_convert_in_thread", convert_slowly)

    async def convert_many() -> int:
        work = asyncio.gather(*(convert_image(b"", ImageHeader(Format.PNG, 1, 1), Format.JPEG) for _ in range(6)))
        ticks = 0
        while not work.done():
            await asyncio.sleep(0.005)
            ticks += 1
        await work
        return ticks

    assert asyncio.run(convert_many()) > 10
    assert max_running == MAX_CONCURRENT_CONVERSIONS
