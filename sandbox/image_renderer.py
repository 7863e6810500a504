"""Renders real images of exact pixel sizes, and reads the images of clients. Pillow only; no I/O."""

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
MAX_CAPTION_CHARACTERS = 400
MAX_PIXELS = 50_000_000
THUMBNAIL_EDGE = 128
MAX_RENDERED_CHARACTERS = 640
RENDER_CACHE_BYTES = 64 << 20

# All that Pillow raises for hostile bytes; also its bomb warning, for processes that turn warnings into errors.
PILLOW_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning)


class InvalidImageError(Exception):
    """The bytes are not a PNG, JPEG or WebP image of a valid size."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SourceImage:
    """A client's image: its properties, and a thumbnail to draw into edits."""

    width: int
    height: int
    format: str
    thumbnail: bytes = field(repr=False)
    has_alpha: bool = False


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """The content of an image. A recipe always renders the same bytes, so that only recipes are stored.

    `is_transparent` makes the corners transparent (not in JPEG); `compression` is the JPEG or WebP quality, 0 to 100.
    """

    width: int
    height: int
    format: str
    caption: str = field(repr=False)
    note: str = ""
    sources: tuple[SourceImage, ...] = ()
    is_transparent: bool = False
    compression: int | None = None

    def __post_init__(self) -> None:
        """Shortens a long prompt and adds a digest, so that different prompts still render different images."""
        if len(self.caption) > MAX_RENDERED_CHARACTERS:
            digest = hashlib.sha256(self.caption.encode("utf-8", "replace")).hexdigest()[:16]
            shortened_caption = f"{self.caption[: MAX_RENDERED_CHARACTERS - 20]}… {digest}"
            object.__setattr__(self, "caption", shortened_caption)


# An image that is sent repeatedly, as in a test run, is decoded and kept once, as long as an order uses it.
_KNOWN_SOURCES: WeakValueDictionary[bytes, SourceImage] = WeakValueDictionary()


def shorten_prompt(prompt: str) -> str:
    """Shortens a prompt to the characters that an image shows, to save memory: thousands of recipes are kept.

    A digest of the whole prompt is added, which changes the colours of the image.
    """
    if len(prompt) <= MAX_CAPTION_CHARACTERS:
        return prompt
    digest = hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{prompt[:MAX_CAPTION_CHARACTERS]}… {digest}"


def read_image(data: bytes) -> SourceImage:
    """Decodes a client's image as a vendor would."""
    digest = hashlib.sha256(data).digest()
    if (source := _KNOWN_SOURCES.get(digest)) is None:
        source = _KNOWN_SOURCES[digest] = _decode_image(data)
    return source


def _decode_image(data: bytes) -> SourceImage:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InvalidImageError(f"{image.width}x{image.height} is too large")
            size, image_format = image.size, str(image.format).lower()
            has_alpha = image.has_transparency_data
            # Decodes a JPEG at a fraction of its size.
            image.draft("RGB", (THUMBNAIL_EDGE, THUMBNAIL_EDGE))
            scaled = image.convert("RGB")
            scaled.thumbnail((THUMBNAIL_EDGE, THUMBNAIL_EDGE))
    except InvalidImageError:
        raise
    except PILLOW_ERRORS as error:
        raise InvalidImageError("the bytes are not a readable PNG, JPEG or WebP image") from error
    thumbnail = io.BytesIO()
    scaled.save(thumbnail, "JPEG", quality=70)
    return SourceImage(*size, image_format, thumbnail.getvalue(), has_alpha)


def decode_data_uri(uri: str) -> bytes:
    head, separator, payload = uri.partition(",")
    if not separator or not head.endswith(";base64"):
        raise InvalidImageError("a data URI must look like data:image/png;base64,…")
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError as error:
        raise InvalidImageError("the data URI has invalid base64") from error


def encode_data_uri(data: bytes, image_format: str) -> str:
    return f"data:{MEDIA_TYPES[image_format]};base64,{base64.b64encode(data).decode()}"


def render_image(recipe: ImageRecipe) -> bytes:
    """Renders an image. CPU-bound (a 4k PNG takes about 100 ms): call it in a thread."""
    canvas = _draw_canvas(recipe)
    if recipe.is_transparent:
        canvas.putalpha(_make_rounded_mask(canvas.size))
    output = io.BytesIO()
    if recipe.format == "png":
        canvas.save(output, "PNG", compress_level=1)
    elif recipe.format == "jpeg":
        canvas.save(output, "JPEG", quality=_get_quality(recipe, 88))
    else:
        canvas.save(output, "WEBP", quality=_get_quality(recipe, 80), method=0)
    return output.getvalue()


def _get_quality(recipe: ImageRecipe, default: int) -> int:
    return default if recipe.compression is None else recipe.compression


def _make_rounded_mask(size: tuple[int, int]) -> Image.Image:
    """Makes an alpha channel with transparent corners."""
    alpha = Image.new("L", size, 0)
    ImageDraw.Draw(alpha).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius=min(size) // 8, fill=255)
    return alpha


def _draw_canvas(recipe: ImageRecipe) -> Image.Image:
    color_seed = hashlib.sha256((recipe.caption + recipe.note).encode("utf-8", "replace")).digest()
    top = tuple(60 + byte // 3 for byte in color_seed[:3])
    bottom = tuple(110 + byte // 2 for byte in color_seed[3:6])
    ramp = Image.linear_gradient("L").resize((recipe.width, recipe.height))
    canvas = Image.composite(Image.new("RGB", ramp.size, bottom), Image.new("RGB", ramp.size, top), ramp)
    pen = ImageDraw.Draw(canvas)
    edge = max(2, min(canvas.size) // 128)
    pen.rectangle((0, 0, canvas.width - 1, canvas.height - 1), outline="white", width=edge)
    _paste_sources(canvas, recipe.sources, edge * 6)
    _draw_caption(pen, recipe, edge * 8)
    return canvas


def _paste_sources(canvas: Image.Image, sources: tuple[SourceImage, ...], margin: int) -> None:
    """Draws the input images of an edit in a row along the bottom."""
    edge = max(1, min(canvas.size) // 4)
    x = margin
    for source in sources:
        with Image.open(io.BytesIO(source.thumbnail), formats=["JPEG"]) as thumbnail:
            thumbnail.thumbnail((edge, edge))
            canvas.paste(thumbnail, (x, canvas.height - thumbnail.height - margin))
            x += thumbnail.width + margin
        if x > canvas.width:
            return


def _draw_caption(pen: ImageDraw.ImageDraw, recipe: ImageRecipe, margin: int) -> None:
    size = max(14, min(recipe.width, recipe.height) // 18)
    font = ImageFont.load_default(size)
    columns = max(10, int((recipe.width - 2 * margin) / (size * 0.56)))
    caption = textwrap.wrap(recipe.caption.replace("\0", " "), columns)[:7]
    footer = f"{recipe.width}x{recipe.height} {recipe.format} {recipe.note}".strip()
    for row, line in enumerate([*caption, "", *textwrap.wrap(footer, columns)]):
        pen.text((margin, margin + row * size * 1.25), line, fill="white", font=font)


class RenderCache:
    """Cache of recently rendered images. Thread-safe."""

    def __init__(self, max_bytes: int = RENDER_CACHE_BYTES) -> None:
        self.max_bytes = max_bytes
        self.size_bytes = 0
        self.images: OrderedDict[ImageRecipe, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get_or_render(self, recipe: ImageRecipe) -> bytes:
        with self._lock:
            if (data := self.images.get(recipe)) is not None:
                self.images.move_to_end(recipe)
                return data
        data = render_image(recipe)
        with self._lock:
            self._store_image(recipe, data)
        return data

    def _store_image(self, recipe: ImageRecipe, data: bytes) -> None:
        # Another thread may have rendered the same bytes meanwhile.
        self.size_bytes += len(data) - len(self.images.pop(recipe, b""))
        self.images[recipe] = data
        while self.size_bytes > self.max_bytes:
            _, evicted = self.images.popitem(last=False)
            self.size_bytes -= len(evicted)
