"""Parses the headers of delivered images. Beside the formats of `image_header.py`, sellers may deliver GIF and SVG.

Only an order for a GIF or SVG may deliver one. Neither is accepted as an input image or converted. Pure.
"""

import re
from collections.abc import Iterator

from gateway.assets.image_header import ImageHeader, InvalidImage, is_complete, read_header
from providers.orders import Format

# More blocks than any GIF within the limits of a download has.
MAX_GIF_BLOCKS = 500_000
_GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
_GIF_IMAGE, _GIF_EXTENSION, _GIF_TRAILER, _GIF_CONTROL = 0x2C, 0x21, 0x3B, 0xF9
_MAX_SVG_HEAD_BYTES = 8_192
# The first element, after a declaration, comments and a document type. The quantifiers are possessive or bounded.
_SVG_ROOT = re.compile(rb"(?:\s|<\?[^>]*+>|<!--(?:(?!-->).)*+-->|<![^>\[]*+>)*+<svg\b([^>]*+)>", re.DOTALL)
_SVG_NUMBER = rb"([0-9]{1,6}(?:\.[0-9]{1,9})?)"
_SVG_WIDTH, _SVG_HEIGHT = (
    re.compile(rb"(?<![-\w])" + name + rb"\s*=\s*[\"']\s*" + _SVG_NUMBER + rb"(?:px)?\s*[\"']")
    for name in (b"width", b"height")
)
_SVG_VIEW_BOX = re.compile(
    rb"\bviewBox\s*=\s*[\"']\s*[-+.\d]+[\s,]+[-+.\d]+[\s,]+" + _SVG_NUMBER + rb"[\s,]+" + _SVG_NUMBER + rb"\s*[\"']"
)


def read_delivered_header(data: bytes, output_format: Format) -> ImageHeader:
    """Parses the header of an image that was ordered in this format. Raises InvalidImage unless it is complete."""
    if output_format is Format.GIF and data[:6] in _GIF_SIGNATURES:
        return _read_gif(data)
    if output_format is Format.SVG and (
        root := _SVG_ROOT.match(data[:_MAX_SVG_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf"))
    ):
        return _read_svg(data, root[1])
    header = read_header(data)
    if not is_complete(data, header):
        raise InvalidImage("the image is truncated")
    return header


# --- GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt


def _read_gif(data: bytes) -> ImageHeader:
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if not width or not height:
        raise InvalidImage(f"a gif without any pixels: {width}x{height}")
    frames, has_alpha = 0, False
    for kind, position in _iterate_gif_blocks(data):
        frames += kind == _GIF_IMAGE
        # The flag of transparency is in the control extension, behind its label and its length.
        is_control = kind == _GIF_EXTENSION and data[position + 1 : position + 2] == bytes([_GIF_CONTROL])
        has_alpha = has_alpha or (is_control and bool(int.from_bytes(data[position + 3 : position + 4]) & 1))
    if not frames:
        raise InvalidImage("a gif without a frame")
    return ImageHeader(Format.GIF, width, height, has_alpha=has_alpha, frames=frames)


def _iterate_gif_blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields kind and position of each block, up to the trailer. Raises InvalidImage if there is none."""
    try:
        position = 13 + _get_gif_palette_bytes(data[10])
        for _ in range(MAX_GIF_BLOCKS):
            kind = data[position]
            if kind == _GIF_TRAILER:
                return
            if kind not in (_GIF_IMAGE, _GIF_EXTENSION):
                break
            yield kind, position
            start = (
                position + 2 if kind == _GIF_EXTENSION else position + 11 + _get_gif_palette_bytes(data[position + 9])
            )
            position = _skip_gif_data(data, start)
    except IndexError:
        raise InvalidImage("the image is truncated") from None
    raise InvalidImage("a gif with an invalid block")


def _get_gif_palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_gif_data(data: bytes, position: int) -> int:
    """Returns the position behind a sequence of data blocks, which a block of length zero ends."""
    while length := data[position]:
        position += 1 + length
    return position + 1


# --- SVG: https://www.w3.org/TR/SVG2/struct.html#SVGElement


def _read_svg(data: bytes, attributes: bytes) -> ImageHeader:
    if not attributes.endswith(b"/") and not data.rstrip().endswith(b"</svg>"):
        raise InvalidImage("the image is truncated")
    width, height = _SVG_WIDTH.search(attributes), _SVG_HEIGHT.search(attributes)
    view_box = _SVG_VIEW_BOX.search(attributes)
    if width and height:
        size = float(width[1]), float(height[1])
    else:
        size = (float(view_box[1]), float(view_box[2])) if view_box else (0.0, 0.0)
    if min(size) < 1:
        raise InvalidImage("an svg without width and height")
    return ImageHeader(Format.SVG, round(size[0]), round(size[1]), has_alpha=True)
