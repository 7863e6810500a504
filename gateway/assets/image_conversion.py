"""Converts images between formats, for sellers that cannot deliver the requested one."""

import asyncio
import io
import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import MAX_TEXT_CHUNK

from gateway.assets.image_header import UPRIGHT, ImageHeader, InvalidImage
from providers.orders import Format

# Converting an image of 40 megapixels takes half a gigabyte. More concurrent conversions would only wait for a core.
MAX_CONCURRENT_CONVERSIONS = 2
# Nearly lossless, with colours at full resolution, since small text and thin lines are typical of these models. PNG is
# exact. PNG and WebP use less effort than their libraries' defaults: half the time or less, for 10 % larger files.
ENCODER_OPTIONS: dict[Format, dict[str, Any]] = {
    Format.PNG: {"compress_level": 3},
    Format.JPEG: {"quality": 92, "subsampling": 0},
    Format.WEBP: {"quality": 92, "method": 2},
}

_MODES = {
    Format.PNG: frozenset({"1", "L", "LA", "RGB", "RGBA"}),
    Format.JPEG: frozenset({"L", "RGB"}),
    Format.WEBP: frozenset({"RGB", "RGBA"}),
}
# The colour space that a profile must declare, by the mode of its image.
_COLOUR_SPACES = {"1": b"GRAY", "L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}
# How stored pixels are transposed for display: https://exiftool.org/TagNames/EXIF.html, tag 0x0112.
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Everything that Pillow raises for broken bytes. Its warning about decompression bombs is included, since a process
# may turn warnings into errors.
DECODE_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
# Text chunks of a PNG, which are not displayed.
_PNG_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PNG_SIGNATURE_BYTES, _PNG_CHECKSUM_BYTES = 8, 4
_PNG_CHUNK = struct.Struct(">I4s")

_executor = ThreadPoolExecutor(MAX_CONCURRENT_CONVERSIONS, thread_name_prefix="image-conversion")


async def convert_image(data: bytes, header: ImageHeader, output_format: Format, quality: int | None = None) -> bytes:
    """Returns the image in the output format, upright and with its colour profile.

    It is returned unchanged if it has that format, or if the gateway cannot make that format.

    `quality`: of the JPEG or WebP, 0 to 100. If it is given, an image that has that format already is encoded again.
    """
    if not output_format.is_convertible or (header.format is output_format and quality is None):
        return data
    return await asyncio.get_running_loop().run_in_executor(
        _executor, _convert_in_thread, data, header, output_format, quality
    )


async def shrink_image(data: bytes, header: ImageHeader, width: int, output_format: Format) -> bytes:
    """Returns the image in the output format, upright, and not wider than `width`."""
    return await asyncio.get_running_loop().run_in_executor(
        _executor, _convert_in_thread, data, header, output_format, None, width
    )


def _convert_in_thread(
    data: bytes, header: ImageHeader, output_format: Format, quality: int | None, width: int | None = None
) -> bytes:
    try:
        readable = _strip_text_chunks(data) if header.format is Format.PNG else data
        with Image.open(io.BytesIO(readable), formats=[header.format.upper()]) as image:
            check_size(image, header)
            profile = image.info.get("icc_profile")
            upright = _apply_orientation(_convert_mode(output_format, image), header.orientation)
            if width is not None:
                upright = _scale_to_width(upright, width)
            options = {} if quality is None else {"quality": quality}
            return _encode_image(upright, output_format, profile, ENCODER_OPTIONS[output_format] | options)
    except DECODE_ERRORS as error:
        # Omits the text of the error, which may quote the content of the image.
        raise InvalidImage(f"a broken {header.format}, which cannot be decoded ({type(error).__name__})") from None


def _strip_text_chunks(data: bytes) -> bytes:
    """Removes text chunks and oversized colour profiles, for which Pillow would refuse the image.

    Sellers write prompts, workflows and signatures into text chunks; a converted image contains none of them.
    """
    kept_pieces, kept_from, position = [], 0, _PNG_SIGNATURE_BYTES
    while position + _PNG_CHUNK.size <= len(data):
        length, kind = _PNG_CHUNK.unpack_from(data, position)
        start = position + _PNG_CHUNK.size
        end = start + length + _PNG_CHECKSUM_BYTES
        if kind in _PNG_TEXT_CHUNKS or (kind == b"iCCP" and _is_oversized_profile(data[start : start + length])):
            kept_pieces.append(data[kept_from:position])
            kept_from = end
        position = end
    return b"".join((*kept_pieces, data[kept_from:])) if kept_pieces else data


def _is_oversized_profile(profile: bytes) -> bool:
    """Returns whether a colour profile is larger than Pillow accepts. In the chunk, the profile follows its name, a
    zero and a method byte."""
    decompressor = zlib.decompressobj()
    try:
        decompressor.decompress(profile[profile.find(b"\0") + 2 :], MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return bool(decompressor.unconsumed_tail)


def check_size(image: Image.Image, header: ImageHeader) -> None:
    """Checks that the size to decode is the size in the header: one file may contain several.

    So an image larger than `MAX_PIXELS` is never decoded, and the process-wide limit of Pillow need not be changed.
    """
    if image.size != header.stored_size:
        width, height = header.stored_size
        raise InvalidImage(
            f"a {header.format} with contradicting sizes: {width}x{height} and {image.width}x{image.height}"
        )


def _convert_mode(output_format: Format, image: Image.Image) -> Image.Image:
    """Decodes the pixels into a mode that the format supports, with transparency as an alpha channel."""
    if image.mode.startswith("I"):
        # 16-bit grey: a plain conversion would clip all values above 255 to white.
        return (
            image.convert("I")
            .point(lambda value: value / 256)
            .convert("L" if output_format is not Format.WEBP else "RGB")
        )
    if image.has_transparency_data:
        return _flatten_alpha(image.convert("RGBA")) if output_format is Format.JPEG else image.convert("RGBA")
    if image.mode in _MODES[output_format]:
        return image.copy()
    return image.convert("L" if image.mode in ("1", "L") and output_format is Format.JPEG else "RGB")


def _flatten_alpha(image: Image.Image) -> Image.Image:
    background = Image.new("RGBA", image.size, "white")
    background.alpha_composite(image)
    return background.convert("RGB")


def _apply_orientation(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == UPRIGHT else image.transpose(_TRANSPOSITIONS[orientation])


def _scale_to_width(image: Image.Image, width: int) -> Image.Image:
    size = min(width, image.width), max(1, round(image.height * min(width, image.width) / image.width))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _encode_image(
    image: Image.Image, output_format: Format, profile: bytes | None, options: Mapping[str, Any]
) -> bytes:
    # No other metadata is kept: an orientation in Exif or XMP would rotate the image a second time.
    image.info.clear()
    is_profile_usable = profile is not None and profile[16:20] == _COLOUR_SPACES.get(image.mode)
    buffer = io.BytesIO()
    image.save(buffer, output_format, icc_profile=profile if is_profile_usable else None, **options)
    return buffer.getvalue()
