"""Real pictures of every kind we take, made with Pillow, and the few bytes that Pillow would not write."""

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms

from providers.orders import Format

WIDTH, HEIGHT = 48, 32
CORNERS = {"top left": (255, 0, 0), "top right": (0, 255, 0), "bottom left": (0, 0, 255), "bottom right": (255, 255, 0)}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def quartered(width: int = WIDTH, height: int = HEIGHT, mode: str = "RGB") -> Image.Image:
    """A colour in each corner, so that every way to turn it looks different."""
    image = Image.new("RGB", (width, height))
    for number, colour in enumerate(CORNERS.values()):
        right, bottom = number % 2 * width // 2, number // 2 * height // 2
        image.paste(colour, (right, bottom, right + width // 2, bottom + height // 2))
    return image.convert(mode)


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """What stands well inside each corner, as red, green and blue."""
    image = image.convert("RGB")
    right, bottom = image.width - 5, image.height - 5
    return [_pixel(image, place) for place in ((4, 4), (right, 4), (4, bottom), (right, bottom))]


def _pixel(image: Image.Image, place: tuple[int, int]) -> tuple[int, ...]:
    pixel = image.getpixel(place)
    assert isinstance(pixel, tuple)
    return pixel


def near(one: list[tuple[int, ...]], other: list[tuple[int, ...]], within: int = 12) -> bool:
    return all(
        abs(a - b) <= within
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


def written(image: Image.Image, format: str, **settings: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **settings)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def exif(orientation: int) -> bytes:
    notes = Image.Exif()
    notes[0x010F] = "A camera"
    notes[0x0112] = orientation
    return notes.tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that claims this size, with whatever comes after its header."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_frame(width: int, height: int, marker: int = 0xC0, precision: int = 8) -> bytes:
    return jpeg_segment(marker, struct.pack(">BHHB", precision, height, width, 1) + b"\x01\x11\x00")


def webp_of(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1) for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def vp8x(flags: int, width: int, height: int) -> tuple[bytes, bytes]:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def see_through(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Left half nothing at all (on black), right half blue."""
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    image.paste((0, 0, 255, 255), (width // 2, 0, width, height))
    return image


def deep_grey() -> Image.Image:
    """Grey of 16 bits, as bright as its 8-bit likeness."""
    grey = quartered(mode="L")
    return Image.frombytes("I;16", grey.size, b"".join(bytes((value, value)) for value in grey.tobytes()))


def palette_with_a_hole() -> bytes:
    """A palette whose first colour is transparent, as drawing programs save small PNGs."""
    image = Image.new("P", (WIDTH, HEIGHT), 0)
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.paste(1, (WIDTH // 2, 0, WIDTH, HEIGHT))
    return written(image, "PNG", transparency=0)


# Every way of writing that callers and sellers are known to use.
KINDS: dict[str, tuple[Format, bytes]] = {
    "png": (Format.PNG, written(quartered(), "PNG")),
    "png, alpha": (Format.PNG, written(quartered(mode="RGBA"), "PNG")),
    "png, grey": (Format.PNG, written(quartered(mode="L"), "PNG")),
    "png, grey and alpha": (Format.PNG, written(quartered(mode="LA"), "PNG")),
    "png, black and white": (Format.PNG, written(quartered(mode="1"), "PNG")),
    "png, palette": (Format.PNG, written(quartered(mode="P"), "PNG")),
    "png, palette with a hole": (Format.PNG, palette_with_a_hole()),
    "png, 16 bits of grey": (Format.PNG, written(deep_grey(), "PNG")),
    "png, with a profile": (Format.PNG, written(quartered(), "PNG", icc_profile=SRGB)),
    "jpeg": (Format.JPEG, written(quartered(), "JPEG")),
    "jpeg, progressive": (Format.JPEG, written(quartered(), "JPEG", progressive=True)),
    "jpeg, grey": (Format.JPEG, written(quartered(mode="L"), "JPEG")),
    "jpeg, cmyk": (Format.JPEG, written(quartered(mode="CMYK"), "JPEG")),
    "jpeg, full colour": (Format.JPEG, written(quartered(), "JPEG", subsampling=0)),
    "jpeg, restarts": (Format.JPEG, written(quartered(), "JPEG", restart_marker_blocks=1)),
    "jpeg, exif": (Format.JPEG, written(quartered(), "JPEG", exif=exif(1))),
    "jpeg, large profile": (Format.JPEG, written(quartered(), "JPEG", icc_profile=SRGB + bytes(200_000))),
    "jpeg, comment": (Format.JPEG, written(quartered(), "JPEG", comment=b"\xff\xd9" * 20)),
    "webp": (Format.WEBP, written(quartered(), "WEBP")),
    "webp, lossless": (Format.WEBP, written(quartered(), "WEBP", lossless=True)),
    "webp, alpha": (Format.WEBP, written(see_through(), "WEBP")),
    "webp, lossless alpha": (Format.WEBP, written(see_through(), "WEBP", lossless=True)),
    "webp, profile": (Format.WEBP, written(quartered(), "WEBP", icc_profile=SRGB)),
    "webp, exif": (Format.WEBP, written(quartered(), "WEBP", exif=exif(1))),
}
