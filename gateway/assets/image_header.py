"""Parses image headers: format, size, orientation and transparency.

The declared media type is never used, and no pixels are decoded. Pure.
"""

import re
from collections.abc import Callable, Iterator
from struct import Struct as Layout
from zlib import crc32

from msgspec import Struct

from gateway.assets.backend import ImageData
from providers.orders import Format

MAX_PIXELS = 40_000_000
# The longest edge of a WebP file, so that every accepted image can be converted to any of the three formats.
MAX_EDGE_PIXELS = 16_383
# Bounds the work for a file of many tiny chunks; real files have a handful before their pixels.
MAX_CHUNKS = 4_096
# https://exiftool.org/TagNames/EXIF.html: from 5 on, width and height are swapped.
UPRIGHT, MAX_ORIENTATION, MIN_ROTATED_ORIENTATION = 1, 8, 5

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Grey and colour, each with an alpha channel. Other types may declare transparent colours in a tRNS chunk.
_PNG_ALPHA_TYPES = (4, 6)
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Baseline, extended and progressive. Browsers support no other frames of the standard.
_JPEG_FRAMES = frozenset({0xC0, 0xC1, 0xC2})
_JPEG_OTHER_FRAMES = frozenset(range(0xC0, 0xD0)) - _JPEG_FRAMES - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN, _JPEG_APP1 = 0xDA, 0xE1
# The zero byte, and the markers of start and end: none of them is valid before the pixels.
_JPEG_INVALID_MARKERS = frozenset({0x00, 0xD8, 0xD9})
# The limit of fill bytes before a marker. Encoders write a few at most.
_JPEG_FILL = re.compile(rb"\xff{1,65536}")
_EXIF = b"Exif\0\0"
_JPEG_STANDALONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_WEBP_FIRST_CHUNKS = (b"VP8 ", b"VP8L", b"VP8X")
_WEBP_PIXEL_CHUNKS = (b"VP8 ", b"VP8L")
_WEBP_HAS_ALPHA, _WEBP_HAS_EXIF, _WEBP_IS_ANIMATED = 0x10, 0x08, 0x02
_ORIENTATION_TAG = 0x0112
# More entries than any camera writes, but few enough to read quickly.
_MAX_EXIF_BYTES, _MAX_EXIF_ENTRIES = 65_536, 512

_PNG_CHUNK = Layout(">I4s")
_RIFF_CHUNK = Layout("<4sI")
_JPEG_FRAME = Layout(">BHH")
_JPEG_LENGTH = Layout(">H")
# The number of entries, and one entry: its tag and its value, with type and count between them.
_EXIF_LITTLE, _EXIF_BIG = (Layout("<H"), Layout("<H6xH")), (Layout(">H"), Layout(">H6xH"))

# Other formats that are received instead: (contained bytes, prefix, description). Matched in this order against the
# start of the file, in lower case and without leading blanks.
_OTHER_FORMATS = (
    (b"", b"gif8", "a GIF"),
    (b"", b"bm", "a BMP"),
    (b"", b"ii*\0", "a TIFF"),
    (b"", b"mm\0*", "a TIFF"),
    (b"", b"%pdf", "a PDF"),
    (b"", b"\x1f\x8b", "gzip"),
    (b"", b"pk\x03\x04", "a zip archive"),
    (b"ftyp", b"", "an AVIF, HEIC or video"),
    (b"<svg", b"<", "an SVG drawing"),
    (b"<html", b"<", "an HTML page"),
    (b"", b"<!doctype html", "an HTML page"),
    (b"", b"<", "XML or HTML"),
    (b"", b"{", "JSON"),
    (b"", b"[", "JSON"),
)
_SNIFF_BYTES = 512
_SEARCH_BLOCK_BYTES = 1 << 20


class InvalidImage(ValueError):
    """The bytes are not a supported image. The message says what they are instead."""


class EmptyImage(InvalidImage):
    """The file has no bytes."""


class UnsupportedFormat(InvalidImage):
    """The file is in a format other than PNG, JPEG or WebP."""


class TooManyPixels(InvalidImage):
    """The image has more pixels than the gateway stores or converts."""


class ImageHeader(Struct, frozen=True):
    """The header of an image. Width and height are those of the displayed image.

    `orientation`: the Exif value that maps stored pixels to displayed ones. `has_alpha`: the image may have transparent
    pixels. `frames`: more than one if it is animated.
    """

    format: Format
    width: int
    height: int
    orientation: int = UPRIGHT
    has_alpha: bool = False
    frames: int = 1

    @property
    def stored_size(self) -> tuple[int, int]:
        is_rotated = self.orientation >= MIN_ROTATED_ORIENTATION
        return (self.height, self.width) if is_rotated else (self.width, self.height)


def read_header(data: ImageData) -> ImageHeader:
    """Parses the header. Raises InvalidImage for anything that the gateway does not store, convert or serve."""
    image_format, read_fields = _detect_format(data)
    fields = read_fields(data)
    width, height = fields.width, fields.height
    if not width or not height:
        raise InvalidImage(f"a {image_format} without any pixels: {width}x{height}")
    if width * height > MAX_PIXELS or max(width, height) > MAX_EDGE_PIXELS:
        raise TooManyPixels(
            f"{width}x{height} is too large: the limits are {MAX_PIXELS:,} pixels and {MAX_EDGE_PIXELS:,} on an edge"
        )
    if fields.orientation >= MIN_ROTATED_ORIENTATION:
        width, height = height, width
    return ImageHeader(image_format, width, height, fields.orientation, fields.has_alpha, fields.frames)


def is_complete(data: ImageData, header: ImageHeader) -> bool:
    """Returns whether the file contains its end. Whether everything before it is valid shows only during decoding."""
    if header.format is Format.WEBP:
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    # Earlier chunks may contain thumbnails, which end with the same marker.
    end_marker, find_pixels = (
        (_PNG_END, _find_png_pixels) if header.format is Format.PNG else (_JPEG_END, _find_jpeg_pixels)
    )
    try:
        # Searches from the end, in blocks, so that other threads can run in between.
        for start in reversed(range(find_pixels(data), len(data), _SEARCH_BLOCK_BYTES)):
            if data.rfind(end_marker, start, start + _SEARCH_BLOCK_BYTES + len(end_marker) - 1) >= 0:
                return True
    except InvalidImage:
        return False
    return False


class _HeaderFields(Struct, frozen=True):
    """The fields of a header, with the size of the stored pixels."""

    width: int
    height: int
    orientation: int = UPRIGHT
    has_alpha: bool = False
    frames: int = 1


_HeaderReader = Callable[[ImageData], _HeaderFields]


def _detect_format(data: ImageData) -> tuple[Format, _HeaderReader]:
    if data[: len(_PNG_SIGNATURE)] == _PNG_SIGNATURE:
        return Format.PNG, _read_png
    if data[: len(_JPEG_START)] == _JPEG_START:
        return Format.JPEG, _read_jpeg
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Format.WEBP, _read_webp
    if not data:
        raise EmptyImage("an empty file (0 bytes)")
    raise UnsupportedFormat(_describe_other_format(data))


def _describe_other_format(data: ImageData) -> str:
    head = data[:_SNIFF_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for contained, prefix, description in _OTHER_FORMATS:
        if head.startswith(prefix) and contained in head:
            return f"{description}, not a PNG, JPEG or WebP"
    return "not a PNG, JPEG or WebP; the format is unknown"


# --- PNG: https://www.w3.org/TR/png-3/


def _read_png(data: ImageData) -> _HeaderFields:
    if len(data) < 33:
        raise InvalidImage("a PNG that is truncated within its header")
    length, width, height = int.from_bytes(data[8:12]), int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if length != 13 or data[12:16] != b"IHDR" or crc32(data[12:29]) != int.from_bytes(data[29:33]):
        raise InvalidImage("a PNG with a damaged header")
    orientation, frames, has_alpha = None, 1, data[25] in _PNG_ALPHA_TYPES
    for kind, start, end in _iterate_png_chunks(data):
        if kind == b"eXIf" and orientation is None:
            orientation = _read_orientation(data, start, end)
        elif kind == b"tRNS":
            has_alpha = has_alpha or end > start
        elif kind == b"acTL":
            frames = max(frames, int.from_bytes(data[start : min(end, start + 4)]))
    return _HeaderFields(width, height, orientation or UPRIGHT, has_alpha, frames)


def _find_png_pixels(data: ImageData) -> int:
    return max((end for _, _, end in _iterate_png_chunks(data)), default=33)


def _iterate_png_chunks(data: ImageData) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and end of each chunk before the first pixels. Raises InvalidImage if there are no pixels."""
    position = 33
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            raise InvalidImage("a PNG that is truncated before its pixels")
        length, kind = _PNG_CHUNK.unpack_from(data, position)
        if kind == b"IDAT":
            return
        if kind == b"IEND":
            raise InvalidImage("a PNG without pixels")
        yield kind, position + 8, position + 8 + length
        position += 12 + length
    raise InvalidImage(f"a PNG with more than {MAX_CHUNKS:,} chunks before its pixels")


# --- JPEG: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, annex B


def _read_jpeg(data: ImageData) -> _HeaderFields:
    """Reads the first image of the file. Phones append thumbnails or brightness maps, which are not displayed."""
    size: tuple[int, int] | None = None
    orientation: int | None = None
    for marker, start, end in _iterate_jpeg_segments(data):
        if marker in _JPEG_FRAMES and size is None:
            size = _read_jpeg_size(data, start, end)
        elif marker == _JPEG_APP1 and orientation is None and data[start : start + 6] == _EXIF:
            orientation = _read_orientation(data, start + 6, end)
        elif marker in _JPEG_OTHER_FRAMES:
            raise InvalidImage("a JPEG with an unsupported encoding")
    if size is None:
        raise InvalidImage("a JPEG without a size")
    return _HeaderFields(*size, orientation or UPRIGHT)


def _read_jpeg_size(data: ImageData, start: int, end: int) -> tuple[int, int]:
    if end - start < 6:
        raise InvalidImage("a JPEG with a damaged header")
    precision, height, width = _JPEG_FRAME.unpack_from(data, start)
    if precision != 8:
        raise InvalidImage(f"a JPEG with an unsupported precision of {precision} bits")
    return width, height


def _find_jpeg_pixels(data: ImageData) -> int:
    return max((end for _, _, end in _iterate_jpeg_segments(data)), default=2)


def _iterate_jpeg_segments(data: ImageData) -> Iterator[tuple[int, int, int]]:
    """Yields marker, start and end of each segment before the first scan. Raises InvalidImage if there is no scan."""
    position, size = 2, len(data)
    for _ in range(MAX_CHUNKS):
        position, marker = _read_jpeg_marker(data, position)
        if marker == _JPEG_SCAN:
            return
        if marker in _JPEG_STANDALONE_MARKERS:
            continue
        if position + 2 > size:
            break
        length = _JPEG_LENGTH.unpack_from(data, position)[0]
        if length < 2:
            raise InvalidImage("a JPEG with a damaged header")
        if position + length > size:
            break
        yield marker, position + 2, position + length
        position += length
    else:
        raise InvalidImage(f"a JPEG with more than {MAX_CHUNKS:,} segments before its pixels")
    raise InvalidImage("a JPEG that is truncated before its pixels")


def _read_jpeg_marker(data: ImageData, position: int) -> tuple[int, int]:
    """Returns the end of the marker at this position, and the marker. Any number of 0xFF bytes may precede it."""
    fill = _JPEG_FILL.match(data, position)
    position = fill.end() if fill else position
    if position >= len(data):
        raise InvalidImage("a JPEG that is truncated before its pixels")
    if not fill or data[position] in _JPEG_INVALID_MARKERS:
        raise InvalidImage("a JPEG with a damaged header")
    return position + 1, data[position]


# --- WebP: https://developers.google.com/speed/webp/docs/riff_container


def _read_webp(data: ImageData) -> _HeaderFields:
    kind = data[12:16]
    if kind not in _WEBP_FIRST_CHUNKS or len(data) < 30:
        raise InvalidImage("a WebP that is truncated or damaged within its header")
    return _read_extended_webp(data) if kind == b"VP8X" else _read_webp_pixel_header(data, kind, 20)


def _read_webp_pixel_header(data: ImageData, kind: bytes, start: int) -> _HeaderFields:
    """Reads the header of the pixel data: lossy, which has no transparency, or lossless."""
    if kind == b"VP8L":
        if data[start : start + 1] != b"\x2f":
            raise InvalidImage("a WebP with a damaged header")
        packed = int.from_bytes(data[start + 1 : start + 5], "little")
        return _HeaderFields((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, has_alpha=bool(packed >> 28 & 1))
    if data[start] & 1 or data[start + 3 : start + 6] != b"\x9d\x01\x2a":
        raise InvalidImage("a WebP with a damaged header")
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (start + 6, start + 8))
    return _HeaderFields(width, height)


def _read_extended_webp(data: ImageData) -> _HeaderFields:
    flags = data[20]
    if flags & _WEBP_IS_ANIMATED:
        raise InvalidImage("an animated WebP; only still images are supported")
    width, height = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    orientation = None if flags & _WEBP_HAS_EXIF else UPRIGHT
    for kind, start, end in _iterate_webp_chunks(data):
        if kind == b"EXIF" and orientation is None:
            # Some writers add the Exif prefix of JPEG here, too.
            orientation = _read_orientation(data, start + len(_EXIF) * (data[start : start + len(_EXIF)] == _EXIF), end)
        elif kind in _WEBP_PIXEL_CHUNKS and len(data) >= start + 10:
            _check_canvas_size(_read_webp_pixel_header(data, kind, start), width, height)
    return _HeaderFields(width, height, orientation or UPRIGHT, bool(flags & _WEBP_HAS_ALPHA))


def _check_canvas_size(pixels: _HeaderFields, width: int, height: int) -> None:
    """Checks that canvas and pixels have the same size: a file may declare a small canvas and contain a huge image."""
    if (pixels.width, pixels.height) != (width, height):
        raise InvalidImage(f"a WebP with contradicting sizes: {width}x{height} and {pixels.width}x{pixels.height}")


def _iterate_webp_chunks(data: ImageData) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, start and end of each chunk. Metadata may follow the pixels."""
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        kind, length = _RIFF_CHUNK.unpack_from(data, position)
        yield kind, position + 8, position + 8 + length
        position += 8 + length + (length & 1)


# --- Exif: a TIFF structure without an image


def _read_orientation(data: ImageData, start: int, end: int) -> int:
    """Reads the orientation. Returns upright if the entry is invalid, since many cameras write malformed Exif."""
    exif = data[start : min(end, start + _MAX_EXIF_BYTES)]
    is_little_endian = exif.startswith(b"II*\0")
    if (not is_little_endian and not exif.startswith(b"MM\0*")) or len(exif) < 8:
        return UPRIGHT
    count_layout, entry_layout = _EXIF_LITTLE if is_little_endian else _EXIF_BIG
    directory_start = int.from_bytes(exif[4:8], "little" if is_little_endian else "big")
    if directory_start + 2 > len(exif):
        return UPRIGHT
    count = min(count_layout.unpack_from(exif, directory_start)[0], _MAX_EXIF_ENTRIES)
    for position in range(
        directory_start + 2, min(directory_start + 2 + 12 * count, len(exif) - entry_layout.size + 1), 12
    ):
        tag, value = entry_layout.unpack_from(exif, position)
        if tag == _ORIENTATION_TAG:
            return value if UPRIGHT <= value <= MAX_ORIENTATION else UPRIGHT
    return UPRIGHT
