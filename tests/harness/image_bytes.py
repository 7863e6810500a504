"""Images of every accepted kind, made with Pillow, and bytes that Pillow cannot write."""

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms

from providers.orders import Format

WIDTH, HEIGHT = 48, 32
CORNER_COLOURS = {
    "top left": (255, 0, 0),
    "top right": (0, 255, 0),
    "bottom left": (0, 0, 255),
    "bottom right": (255, 255, 0),
}
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def make_quadrant_image(width: int = WIDTH, height: int = HEIGHT, mode: str = "RGB") -> Image.Image:
    """An image with another colour in each corner, so that every rotation and flip can be detected."""
    image = Image.new("RGB", (width, height))
    for number, colour in enumerate(CORNER_COLOURS.values()):
        right, bottom = number % 2 * width // 2, number // 2 * height // 2
        image.paste(colour, (right, bottom, right + width // 2, bottom + height // 2))
    return image.convert(mode)


def read_corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Returns the RGB colours near the four corners."""
    image = image.convert("RGB")
    right, bottom = image.width - 5, image.height - 5
    return [_read_pixel(image, position) for position in ((4, 4), (right, 4), (4, bottom), (right, bottom))]


def _read_pixel(image: Image.Image, position: tuple[int, int]) -> tuple[int, ...]:
    pixel = image.getpixel(position)
    assert isinstance(pixel, tuple)
    return pixel


def are_colours_close(first: list[tuple[int, ...]], second: list[tuple[int, ...]], tolerance: int = 12) -> bool:
    return all(
        abs(a - b) <= tolerance
        for first_colour, second_colour in zip(first, second, strict=True)
        for a, b in zip(first_colour, second_colour, strict=True)
    )


def encode_image(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def decode_image(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def make_exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x010F] = "A camera"
    tags[0x0112] = orientation
    return tags.tobytes()


def make_png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def make_png(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG with a header of this size, followed by the given chunks."""
    header = make_png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def make_jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def make_jpeg_frame(width: int, height: int, marker: int = 0xC0, precision: int = 8) -> bytes:
    return make_jpeg_segment(marker, struct.pack(">BHHB", precision, height, width, 1) + b"\x01\x11\x00")


def make_webp(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1) for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def make_vp8x_chunk(flags: int, width: int, height: int) -> tuple[bytes, bytes]:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", bytes([flags, 0, 0, 0]) + size


def make_half_transparent_image(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """The left half is transparent black, the right half blue."""
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    image.paste((0, 0, 255, 255), (width // 2, 0, width, height))
    return image


def make_16_bit_grey_image() -> Image.Image:
    """A 16-bit grey image with the brightness of the 8-bit one."""
    grey = make_quadrant_image(mode="L")
    return Image.frombytes("I;16", grey.size, b"".join(bytes((value, value)) for value in grey.tobytes()))


def encode_transparent_palette_png() -> bytes:
    """A PNG with a palette whose first colour is transparent."""
    image = Image.new("P", (WIDTH, HEIGHT), 0)
    image.putpalette([0, 0, 0, 0, 0, 255])
    image.paste(1, (WIDTH // 2, 0, WIDTH, HEIGHT))
    return encode_image(image, "PNG", transparency=0)


# Every encoding that clients and sellers are known to use.
SAMPLE_IMAGES: dict[str, tuple[Format, bytes]] = {
    "png": (Format.PNG, encode_image(make_quadrant_image(), "PNG")),
    "png, alpha": (Format.PNG, encode_image(make_quadrant_image(mode="RGBA"), "PNG")),
    "png, grey": (Format.PNG, encode_image(make_quadrant_image(mode="L"), "PNG")),
    "png, grey and alpha": (Format.PNG, encode_image(make_quadrant_image(mode="LA"), "PNG")),
    "png, black and white": (Format.PNG, encode_image(make_quadrant_image(mode="1"), "PNG")),
    "png, palette": (Format.PNG, encode_image(make_quadrant_image(mode="P"), "PNG")),
    "png, palette with a hole": (Format.PNG, encode_transparent_palette_png()),
    "png, 16 bits of grey": (Format.PNG, encode_image(make_16_bit_grey_image(), "PNG")),
    "png, with a profile": (Format.PNG, encode_image(make_quadrant_image(), "PNG", icc_profile=SRGB_PROFILE)),
    "jpeg": (Format.JPEG, encode_image(make_quadrant_image(), "JPEG")),
    "jpeg, progressive": (Format.JPEG, encode_image(make_quadrant_image(), "JPEG", progressive=True)),
    "jpeg, grey": (Format.JPEG, encode_image(make_quadrant_image(mode="L"), "JPEG")),
    "jpeg, cmyk": (Format.JPEG, encode_image(make_quadrant_image(mode="CMYK"), "JPEG")),
    "jpeg, full colour": (Format.JPEG, encode_image(make_quadrant_image(), "JPEG", subsampling=0)),
    "jpeg, restarts": (Format.JPEG, encode_image(make_quadrant_image(), "JPEG", restart_marker_blocks=1)),
    "jpeg, exif": (Format.JPEG, encode_image(make_quadrant_image(), "JPEG", exif=make_exif(1))),
    "jpeg, large profile": (
        Format.JPEG,
        encode_image(make_quadrant_image(), "JPEG", icc_profile=SRGB_PROFILE + bytes(200_000)),
    ),
    "jpeg, comment": (Format.JPEG, encode_image(make_quadrant_image(), "JPEG", comment=b"\xff\xd9" * 20)),
    "webp": (Format.WEBP, encode_image(make_quadrant_image(), "WEBP")),
    "webp, lossless": (Format.WEBP, encode_image(make_quadrant_image(), "WEBP", lossless=True)),
    "webp, alpha": (Format.WEBP, encode_image(make_half_transparent_image(), "WEBP")),
    "webp, lossless alpha": (Format.WEBP, encode_image(make_half_transparent_image(), "WEBP", lossless=True)),
    "webp, profile": (Format.WEBP, encode_image(make_quadrant_image(), "WEBP", icc_profile=SRGB_PROFILE)),
    "webp, exif": (Format.WEBP, encode_image(make_quadrant_image(), "WEBP", exif=make_exif(1))),
}
