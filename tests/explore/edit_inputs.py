"""The input images of edits: small ones that fit into an order, and large ones that must be uploaded."""

import struct
import zlib
from functools import cache

from gateway.api.input_images import InputImages
from gateway.assets.image_header import ImageHeader
from gateway.engine.job_creation import InputImage
from providers.orders import Format
from tests.explore.seller_dialects import HEIGHT, WIDTH, render_image

# More than a seller takes inside an order.
LARGE_INPUT_BYTES = (1 << 20) + 1


@cache
def make_input_images(count: int, is_large: bool, has_mask: bool) -> InputImages:
    """Makes distinct images. If `is_large`, the first one has to be uploaded everywhere."""
    inputs = [_make_input(number, is_large and number == 0) for number in range(count)]
    return InputImages(tuple(inputs), _make_input(count, False, has_alpha=True) if has_mask else None)


def _make_input(number: int, is_large: bool, has_alpha: bool = False) -> InputImage:
    data = render_image(f"https://files.test/input-{number}/0.png")
    if is_large:
        data = _add_padding(data)
    header = ImageHeader(Format.PNG, WIDTH, HEIGHT, has_alpha=has_alpha)
    return InputImage(data, header)


def _add_padding(image: bytes) -> bytes:
    chunk = b"npAd" + bytes(LARGE_INPUT_BYTES)
    return image[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + image[33:]
