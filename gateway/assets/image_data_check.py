"""Checks the image data of input images before they are ordered: sellers refuse damaged ones only afterwards."""

import io

from PIL import Image

from gateway.assets.backend import ImageData
from gateway.assets.image_conversion import DECODE_ERRORS, check_size
from gateway.assets.image_header import ImageHeader, InvalidImage
from gateway.assets.jpeg_scan_check import check_jpeg_scans
from gateway.assets.png_data_check import check_png_data
from gateway.large_body_thread import BodyThread
from providers.orders import Format

# The check of an image of so many pixels or bytes takes about a millisecond.
MAX_INLINE_SIZE = 64 << 10
# Decoding a WebP takes 16 bytes a pixel: a quarter of a gigabyte at most. In larger ones only the header is checked.
MAX_WEBP_PIXELS = 1 << 24
# A JPEG is decoded at an eighth of its size: all its data is read, but few pixels are made.
_JPEG_SCALE = 8

# Not the thread that parses bodies. One image at a time, so that all together need the memory of one.
_run_off_loop = BodyThread("image-data-check", MAX_INLINE_SIZE).run


async def check_image_data(data: ImageData, header: ImageHeader) -> None:
    """Raises InvalidImage if the image cannot be decoded."""
    await _run_off_loop(max(len(data), header.width * header.height), _check_in_thread, data, header)


def _check_in_thread(data: ImageData, header: ImageHeader) -> None:
    match header.format:
        case Format.PNG:
            check_png_data(data)
        case Format.JPEG:
            check_jpeg_scans(data)
            _decode(data, header)
        case _ if header.width * header.height <= MAX_WEBP_PIXELS:
            _decode(data, header)


def _decode(data: ImageData, header: ImageHeader) -> None:
    try:
        with Image.open(io.BytesIO(data), formats=[header.format.upper()]) as image:
            check_size(image, header)
            image.draft(None, (image.width // _JPEG_SCALE, image.height // _JPEG_SCALE))
            image.load()
    except DECODE_ERRORS as error:
        # Omits the text of the error, which may quote the content of the image.
        name = type(error).__name__
        raise InvalidImage(f"a {header.format} whose image data is damaged or incomplete ({name})") from None
