"""The bytes of terminal images are decoded again and compared with the image."""

import base64
import io
import re

import pytest
from PIL import Image

from gateway.commands.terminal_images import (
    KITTY_CHUNK_LENGTH,
    MAX_EDGE_PIXELS,
    ImageProtocol,
    UnreadableImage,
    encode_for_terminal,
    encode_sixel,
)

Pixels = dict[tuple[int, int], tuple[int, int, int]]
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))


def make_noise(width: int, height: int) -> Image.Image:
    return Image.effect_noise((width, height), 80).convert("RGB")


def to_png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def decode_sixel(data: bytes) -> Pixels:
    match = re.fullmatch(rb'\x1bP0;1;0q"1;1;\d+;\d+(.*)\x1b\\\n', data, re.DOTALL)
    assert match is not None
    palette: dict[int, tuple[int, int, int]] = {}
    pixels: Pixels = {}
    column, top, color = 0, 0, 0
    for token in re.finditer(rb"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|(.)", match[1], re.DOTALL):
        number, red, green, blue, count, repeated, single = token.groups()
        if red is not None:
            palette[int(number)] = (round(int(red) * 2.55), round(int(green) * 2.55), round(int(blue) * 2.55))
        elif number is not None:
            color = int(number)
        elif single == b"$":
            column = 0
        elif single == b"-":
            column, top = 0, top + 6
        else:
            bits = (repeated or single)[0] - 63
            columns = range(column, column + int(count or 1))
            rows = [top + row for row in range(6) if bits >> row & 1]
            pixels |= {(x, y): palette[color] for x in columns for y in rows}
            column = columns.stop
    return pixels


@pytest.mark.parametrize(("width", "height"), [(1, 1), (5, 6), (300, 13), (7, 25)])
def test_sixels_decode_to_the_same_pixels(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height))
    expected = {(x, y): COLORS[(x // 40 + y) % len(COLORS)] for x in range(width) for y in range(height)}
    for position, color in expected.items():
        image.putpixel(position, color)
    assert decode_sixel(encode_sixel(image)) == expected


def test_every_pixel_of_a_photograph_has_exactly_one_color() -> None:
    image = make_noise(90, 50)
    data = encode_sixel(image)
    assert len(decode_sixel(data)) == 90 * 50
    assert sum(bin(byte - 63).count("1") for byte in _expand_repeats(data)) == 90 * 50


def _expand_repeats(data: bytes) -> bytes:
    body = re.sub(rb"#\d+(?:;2;\d+;\d+;\d+)?|[$-]", b"", data[data.index(b"#") : data.rindex(b"\x1b")])
    return re.sub(rb"!(\d+)(.)", lambda match: match[2] * int(match[1]), body, flags=re.DOTALL)


def test_kitty_receives_small_png_in_chunks_and_sends_no_answer() -> None:
    data = encode_for_terminal(to_png(make_noise(900, 300)), ImageProtocol.KITTY)
    chunks = re.findall(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\", data)
    assert len(chunks) > 1
    assert chunks[0][0] == b"a=T,f=100,q=2,m=1"
    assert [control for control, _ in chunks[1:]] == [b"q=2,m=1"] * (len(chunks) - 2) + [b"q=2,m=0"]
    assert all(len(chunk) <= KITTY_CHUNK_LENGTH and len(chunk) % 4 == 0 for _, chunk in chunks)
    with Image.open(io.BytesIO(base64.b64decode(b"".join(chunk for _, chunk in chunks)))) as image:
        image.load()
        assert (image.format, max(image.size)) == ("PNG", MAX_EDGE_PIXELS)


def test_iterm_receives_whole_png_with_its_size() -> None:
    data = encode_for_terminal(to_png(make_noise(64, 64)), ImageProtocol.ITERM)
    match = re.fullmatch(rb"\x1b\]1337;File=inline=1;size=(\d+):([A-Za-z0-9+/=]+)\x07\n", data)
    assert match is not None
    png = base64.b64decode(match[2], validate=True)
    assert len(png) == int(match[1])
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (64, 64)


@pytest.mark.parametrize("data", [b"", b"<svg/>", to_png(make_noise(64, 64))[:200]], ids=["empty", "svg", "truncated"])
@pytest.mark.parametrize("protocol", ImageProtocol)
def test_undecodable_image_is_an_expected_error(data: bytes, protocol: ImageProtocol) -> None:
    with pytest.raises(UnreadableImage):
        encode_for_terminal(data, protocol)
