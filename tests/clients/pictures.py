"""Pictures as tests make and read them."""

import base64
import io

from PIL import Image


def opened(b64: str | None) -> Image.Image:
    """The picture itself, fully decoded: a truncated or mislabelled one fails here."""
    assert b64 is not None
    image = Image.open(io.BytesIO(base64.b64decode(b64, validate=True)))
    image.load()
    return image


def drawn(width: int, height: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """A plain picture; in mode RGBA it is fully transparent."""
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, kind)
    return out.getvalue()
