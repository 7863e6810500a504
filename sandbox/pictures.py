"""Draws real pictures at exact pixels, and reads the ones that callers send. Pillow only; no I/O."""

import base64
import hashlib
import io
import textwrap
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from PIL import Image, ImageDraw, ImageFont

MEDIA_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
CAPTION_LETTERS = 400
MAX_PIXELS = 50_000_000
THUMBNAIL_EDGE = 128
DRAWN_CHARACTERS = 640
DRAWN_CACHE_BYTES = 64 << 20

# Whatever Pillow raises over hostile bytes; its bomb warning too, for processes that turn warnings into errors.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)


class NotAPictureError(Exception):
    """The bytes are no PNG, JPEG or WebP picture of a sane size."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Source:
    """A picture that a caller sent: what it was, and a thumbnail to draw into edits."""

    width: int
    height: int
    format: str
    thumbnail: bytes = field(repr=False)
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A recipe: the same recipe always draws the same bytes, so that only recipes need keeping.

    `transparent` leaves the corners open, which JPEG cannot; `compression` is the JPEG or WebP quality, 0 to 100.
    """

    width: int
    height: int
    format: str
    caption: str = field(repr=False)
    note: str = ""
    sources: tuple[Source, ...] = ()
    transparent: bool = False
    compression: int | None = None

    def __post_init__(self) -> None:
        """Keeps of a long prompt what can be drawn, and a digest, so that different prompts stay different pictures."""
        if len(self.caption) > DRAWN_CHARACTERS:
            digest = hashlib.sha256(self.caption.encode("utf-8", "replace")).hexdigest()[:16]
            kept = f"{self.caption[: DRAWN_CHARACTERS - 20]}… {digest}"
            object.__setattr__(self, "caption", kept)


# A picture that is sent again and again, as in a test run, is looked at and kept once; as long as an order has it.
_KNOWN: WeakValueDictionary[bytes, Source] = WeakValueDictionary()


def shortened(prompt: str) -> str:
    """As much of a prompt as a picture shows: recipes are kept by the thousand. The rest still changes the colours."""
    if len(prompt) <= CAPTION_LETTERS:
        return prompt
    digest = hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{prompt[:CAPTION_LETTERS]}… {digest}"


def read(data: bytes) -> Source:
    """Looks at a caller's picture the way a vendor would."""
    digest = hashlib.sha256(data).digest()
    if (source := _KNOWN.get(digest)) is None:
        source = _KNOWN[digest] = _read(data)
    return source


def _read(data: bytes) -> Source:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NotAPictureError(f"{image.width}x{image.height} is too large")
            size, kind = image.size, str(image.format).lower()
            alpha = image.has_transparency_data
            # Lets a JPEG decode at a fraction of its size.
            image.draft("RGB", (THUMBNAIL_EDGE, THUMBNAIL_EDGE))
            small = image.convert("RGB")
            small.thumbnail((THUMBNAIL_EDGE, THUMBNAIL_EDGE))
    except NotAPictureError:
        raise
    except UNREADABLE as error:
        raise NotAPictureError("the bytes are not a readable PNG, JPEG or WebP picture") from error
    thumbnail = io.BytesIO()
    small.save(thumbnail, "JPEG", quality=70)
    return Source(*size, kind, thumbnail.getvalue(), alpha)


def from_data_uri(uri: str) -> bytes:
    head, separator, payload = uri.partition(",")
    if not separator or not head.endswith(";base64"):
        raise NotAPictureError("a data URI must look like data:image/png;base64,…")
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError as error:
        raise NotAPictureError("the data URI's base64 is broken") from error


def to_data_uri(data: bytes, kind: str) -> str:
    return f"data:{MEDIA_TYPES[kind]};base64,{base64.b64encode(data).decode()}"


def draw(picture: Picture) -> bytes:
    """CPU-bound (a 4k PNG takes some 100 ms): call it in a thread."""
    drawn = _canvas(picture)
    if picture.transparent:
        drawn.putalpha(_rounded(drawn.size))
    out = io.BytesIO()
    if picture.format == "png":
        drawn.save(out, "PNG", compress_level=1)
    elif picture.format == "jpeg":
        drawn.save(out, "JPEG", quality=_quality(picture, 88))
    else:
        drawn.save(out, "WEBP", quality=_quality(picture, 80), method=0)
    return out.getvalue()


def _quality(picture: Picture, default: int) -> int:
    return default if picture.compression is None else picture.compression


def _rounded(size: tuple[int, int]) -> Image.Image:
    """An alpha channel that cuts the corners off."""
    alpha = Image.new("L", size, 0)
    ImageDraw.Draw(alpha).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius=min(size) // 8, fill=255)
    return alpha


def _canvas(picture: Picture) -> Image.Image:
    hue = hashlib.sha256((picture.caption + picture.note).encode("utf-8", "replace")).digest()
    top = tuple(60 + byte // 3 for byte in hue[:3])
    bottom = tuple(110 + byte // 2 for byte in hue[3:6])
    ramp = Image.linear_gradient("L").resize((picture.width, picture.height))
    canvas = Image.composite(Image.new("RGB", ramp.size, bottom), Image.new("RGB", ramp.size, top), ramp)
    pen = ImageDraw.Draw(canvas)
    edge = max(2, min(canvas.size) // 128)
    pen.rectangle((0, 0, canvas.width - 1, canvas.height - 1), outline="white", width=edge)
    _paste_sources(canvas, picture.sources, edge * 6)
    _write(pen, picture, edge * 8)
    return canvas


def _paste_sources(canvas: Image.Image, sources: tuple[Source, ...], margin: int) -> None:
    """Edits show what they were made from, in a row along the bottom."""
    edge = max(1, min(canvas.size) // 4)
    x = margin
    for source in sources:
        with Image.open(io.BytesIO(source.thumbnail), formats=["JPEG"]) as thumbnail:
            thumbnail.thumbnail((edge, edge))
            canvas.paste(thumbnail, (x, canvas.height - thumbnail.height - margin))
            x += thumbnail.width + margin
        if x > canvas.width:
            return


def _write(pen: ImageDraw.ImageDraw, picture: Picture, margin: int) -> None:
    size = max(14, min(picture.width, picture.height) // 18)
    font = ImageFont.load_default(size)
    columns = max(10, int((picture.width - 2 * margin) / (size * 0.56)))
    caption = textwrap.wrap(picture.caption.replace("\0", " "), columns)[:7]
    footer = f"{picture.width}x{picture.height} {picture.format} {picture.note}".strip()
    for row, line in enumerate([*caption, "", *textwrap.wrap(footer, columns)]):
        pen.text((margin, margin + row * size * 1.25), line, fill="white", font=font)


class DrawnCache:
    """Pictures drawn lately, so that fetching one twice does not draw it twice. Asked from several threads."""

    def __init__(self, limit: int = DRAWN_CACHE_BYTES) -> None:
        self.limit = limit
        self.size = 0
        self.drawn: OrderedDict[Picture, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, picture: Picture) -> bytes:
        with self._lock:
            if (data := self.drawn.get(picture)) is not None:
                self.drawn.move_to_end(picture)
                return data
        data = draw(picture)
        with self._lock:
            self._keep(picture, data)
        return data

    def _keep(self, picture: Picture, data: bytes) -> None:
        # Another thread may have drawn it meanwhile: the same bytes.
        self.size += len(data) - len(self.drawn.pop(picture, b""))
        self.drawn[picture] = data
        while self.size > self.limit:
            _, old = self.drawn.popitem(last=False)
            self.size -= len(old)
