"""From one format to another, for sellers that cannot deliver the one that was asked for."""

import asyncio
import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import MAX_TEXT_CHUNK

from gateway.assets.headers import UPRIGHT, Header, NotAPicture
from providers.orders import Format

# A picture of 40 megapixels takes half a gigabyte while it is converted; more at once would only wait for a core.
MOST_AT_ONCE = 2
# Near to lossless, with colours at full resolution: small text and thin lines are what these models are bought for.
# A PNG stays exact. It and WebP work less hard than their libraries would: half the time or less, a tenth more room.
SETTINGS: dict[Format, dict[str, Any]] = {
    Format.PNG: {"compress_level": 3},
    Format.JPEG: {"quality": 92, "subsampling": 0},
    Format.WEBP: {"quality": 92, "method": 2},
}

_MODES = {
    Format.PNG: frozenset({"1", "L", "LA", "RGB", "RGBA"}),
    Format.JPEG: frozenset({"L", "RGB"}),
    Format.WEBP: frozenset({"RGB", "RGBA"}),
}
# What a colour profile says it is for, by the mode of the picture it lies in.
_COLOUR_SPACES = {"1": b"GRAY", "L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB "}
# How stored pixels are turned to be shown: https://exiftool.org/TagNames/EXIF.html, tag 0x0112.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Whatever Pillow raises over broken bytes; its bomb warning too, for processes that turn warnings into errors.
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
# What a PNG says about itself, which nobody sees.
_PNG_NOTES = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PNG_SIGNATURE_BYTES, _PNG_CHECKSUM_BYTES = 8, 4
_PNG_CHUNK = struct.Struct(">I4s")

_threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="converting")


async def converted(data: bytes, header: Header, wanted: Format) -> bytes:
    """The same picture in the wanted format, upright and in its own colours; the same bytes if it is in it already."""
    if header.format is wanted:
        return data
    return await asyncio.get_running_loop().run_in_executor(_threads, _converted, data, header, wanted)


def _converted(data: bytes, header: Header, wanted: Format) -> bytes:
    try:
        readable = _without_notes(data) if header.format is Format.PNG else data
        with Image.open(io.BytesIO(readable), formats=[header.format.upper()]) as image:
            _require_size(image, header)
            profile = image.info.get("icc_profile")
            return _written(_upright(_in_mode_for(wanted, image), header.orientation), wanted, profile)
    except _UNREADABLE as error:
        # Not its words: they may quote what lies in the picture.
        raise NotAPicture(f"a broken {header.format}, which cannot be decoded ({type(error).__name__})") from None


def _without_notes(data: bytes) -> bytes:
    """The same pixels without what Pillow would unpack beside them, and refuse the picture for if there is much of it.

    Sellers write prompts, workflows and signatures into their pictures. None of it goes along anyway.
    """
    kept, begin, position = [], 0, _PNG_SIGNATURE_BYTES
    while position + _PNG_CHUNK.size <= len(data):
        length, kind = _PNG_CHUNK.unpack_from(data, position)
        start = position + _PNG_CHUNK.size
        end = start + length + _PNG_CHECKSUM_BYTES
        if kind in _PNG_NOTES or (kind == b"iCCP" and _is_swollen(data[start : start + length])):
            kept.append(data[begin:position])
            begin = end
        position = end
    return b"".join((*kept, data[begin:])) if kept else data


def _is_swollen(profile: bytes) -> bool:
    """Whether a colour profile is larger than Pillow reads; its name, a zero and a method stand before it."""
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(profile[profile.find(b"\0") + 2 :], MAX_TEXT_CHUNK)
    except zlib.error:
        return False
    return bool(unpacking.unconsumed_tail)


def _require_size(image: Image.Image, header: Header) -> None:
    """What is decoded must be what was looked at: a file may hold several sizes, and only one was judged.

    So nothing beyond `MOST_PIXELS` is ever decoded, and Pillow's own limit, which is one for the whole process, stays.
    """
    if image.size != header.stored_size:
        width, height = header.stored_size
        raise NotAPicture(f"a {header.format} of two minds: {width}x{height} and {image.width}x{image.height}")


def _in_mode_for(wanted: Format, image: Image.Image) -> Image.Image:
    """Pixels as the format can hold them, decoded, and transparency as a channel of its own."""
    if image.mode.startswith("I"):
        # Sixteen bits of grey; a plain conversion would cut all that is brighter than 1/256 to white.
        return image.convert("I").point(lambda value: value / 256).convert("L" if wanted is not Format.WEBP else "RGB")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA")) if wanted is Format.JPEG else image.convert("RGBA")
    if image.mode in _MODES[wanted]:
        return image.copy()
    return image.convert("L" if image.mode in ("1", "L") and wanted is Format.JPEG else "RGB")


def _on_white(image: Image.Image) -> Image.Image:
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image)
    return ground.convert("RGB")


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == UPRIGHT else image.transpose(_TURNS[orientation])


def _written(image: Image.Image, wanted: Format, profile: bytes | None) -> bytes:
    # Nothing else goes along: a note on orientation, in Exif or XMP, would turn the picture a second time.
    image.info.clear()
    fits = profile is not None and profile[16:20] == _COLOUR_SPACES.get(image.mode)
    written = io.BytesIO()
    image.save(written, wanted, icc_profile=profile if fits else None, **SETTINGS[wanted])
    return written.getvalue()
