"""Creates, encodes and decodes images for tests."""

import base64
import io

from PIL import Image


def decode_image(encoded: str | None) -> Image.Image:
    """Decodes a base64 image completely, so that a truncated image fails."""
    assert encoded is not None
    image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


def encode_data_uri(data: bytes, format_name: str = "png") -> str:
    return f"data:image/{format_name};base64,{base64.b64encode(data).decode()}"


def encode_b64_json(data: bytes) -> dict[str, str]:
    return {"b64_json": base64.b64encode(data).decode()}


def make_image(width: int, height: int, format_name: str = "PNG", mode: str = "RGB") -> bytes:
    """Returns a black image; in mode RGBA it is transparent."""
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, format_name)
    return out.getvalue()
