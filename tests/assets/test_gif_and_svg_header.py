"""Headers of delivered GIFs and SVGs are read; anything else is read as before, and broken ones are invalid."""

import io

import pytest
from PIL import Image

from gateway.assets.gif_and_svg_header import read_delivered_header
from gateway.assets.image_header import InvalidImage
from providers.orders import Format
from tests.harness.sample_images import make_image


def make_gif(frame_count: int = 1, is_transparent: bool = False, size: tuple[int, int] = (40, 30)) -> bytes:
    frames = [Image.new("RGB", size, (80 * number, 0, 0)).convert("P") for number in range(frame_count)]
    options = {"transparency": 0} if is_transparent else {}
    output = io.BytesIO()
    frames[0].save(output, "GIF", save_all=True, append_images=frames[1:], duration=50, **options)
    return output.getvalue()


SVG_SIZES = {
    b'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="480"><path d="M0 0"/></svg>': (640, 480),
    b'<?xml version="1.0"?>\n<!-- a > b -->\n<!DOCTYPE svg>\n<svg width="64.4px" height="48.6px"></svg>\n': (64, 49),
    b'\xef\xbb\xbf<svg viewBox="0 0 300 200" width="100%" height="100%"></svg>': (300, 200),
    b"<svg viewBox='-10,-10,32,16'/>": (32, 16),
}


@pytest.mark.parametrize(("frame_count", "is_transparent"), [(1, False), (1, True), (3, True)])
def test_gif_is_read(frame_count: int, is_transparent: bool) -> None:
    header = read_delivered_header(make_gif(frame_count, is_transparent), Format.GIF)
    assert (header.format, header.width, header.height) == (Format.GIF, 40, 30)
    assert (header.frames, header.has_alpha) == (frame_count, is_transparent)


def test_every_truncated_gif_is_invalid() -> None:
    data = make_gif(2)
    for end in range(6, len(data)):
        with pytest.raises(InvalidImage):
            read_delivered_header(data[:end], Format.GIF)


@pytest.mark.parametrize("data", SVG_SIZES)
def test_svg_is_read(data: bytes) -> None:
    header = read_delivered_header(data, Format.SVG)
    assert (header.format, (header.width, header.height)) == (Format.SVG, SVG_SIZES[data])


@pytest.mark.parametrize(
    "data",
    [
        b"<svg width='10' height='10'>",
        b"<svg></svg>",
        b"<svg width='0' height='0'></svg>",
        b"<html><svg width='10' height='10'></svg></html>",
        b"<!--" * 2_000 + b"<svg width='10' height='10'></svg>",
        b"<svg viewBox='" + b"1 " * 4_000 + b"'></svg>",
        b"GIF89a" + bytes(7),
        b"GIF89a\x10\0\x10\0\0\0\0!\xfe" + b"\1a" * 100_000,
        b"",
    ],
)
def test_broken_files_are_invalid(data: bytes) -> None:
    for output_format in (Format.SVG, Format.GIF):
        with pytest.raises(InvalidImage):
            read_delivered_header(data, output_format)


def test_gif_and_svg_are_invalid_unless_ordered() -> None:
    for data in (make_gif(), *SVG_SIZES):
        with pytest.raises(InvalidImage):
            read_delivered_header(data, Format.PNG)
    assert read_delivered_header(make_image(8, 8), Format.GIF).format is Format.PNG
