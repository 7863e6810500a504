"""An order for one seller, and what it consists of."""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

from msgspec import Struct


class Operation(StrEnum):
    GENERATE = "generate"
    EDIT = "edit"


class Cell(Struct, frozen=True, order=True, array_like=True):
    """Operation, resolution tier and quality of an order: the unit of price, health and latency."""

    operation: Operation
    resolution: str
    quality: str


def list_cells(resolutions: Iterable[str], qualities: Sequence[str]) -> tuple[Cell, ...]:
    """Lists the cells of a model with these resolutions and qualities."""
    return tuple(
        Cell(operation, resolution, quality)
        for operation in Operation
        for resolution in resolutions
        for quality in qualities
    )


class Format(StrEnum):
    """A file format that the gateway can read. Each model configures which of them it has."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    GIF = "gif"
    SVG = "svg"

    @property
    def media_type(self) -> str:
        return "image/svg+xml" if self is Format.SVG else f"image/{self}"

    @property
    def is_convertible(self) -> bool:
        """Whether the gateway can make this format from another one."""
        return self in (Format.PNG, Format.JPEG, Format.WEBP)

    @property
    def has_alpha(self) -> bool:
        return self is not Format.JPEG


class ImageBytes(Struct, frozen=True, tag=True):
    """An image as bytes."""

    data: bytes
    media_type: str
    name: str


class ImageUrl(Struct, frozen=True, tag=True):
    """An image as a URL. The seller fetches input images from it, and the gateway fetches output images."""

    url: str


ImageSource = ImageBytes | ImageUrl


class PixelSize(Struct, frozen=True, tag=True):
    """A size given as exact pixels."""

    width: int
    height: int


class PresetSize(Struct, frozen=True, tag=True):
    """A size given as the seller's own name for it."""

    name: str


class RatioSize(Struct, frozen=True, tag=True):
    """A size given as ratio and resolution; the seller chooses the pixels."""

    ratio: str
    resolution: str


SizeSpec = PixelSize | PresetSize | RatioSize


class Order(Struct, frozen=True, kw_only=True):
    """One order at one seller. `model` and `quality` are the seller's own words; `reference` is the gateway's id of the
    attempt."""

    reference: str
    operation: Operation
    model: str
    prompt: str
    size: SizeSpec
    output_format: Format | None = None
    quality: str | None = None
    image_count: int = 1
    input_images: tuple[ImageSource, ...] = ()
    mask: ImageSource | None = None
    background: str | None = None
    callback_url: str | None = None


class Ticket(Struct, frozen=True):
    """The identification of an order at its seller: the id that the seller assigned, the operation and the model."""

    id: str
    operation: Operation
    model: str


class OrderReference(Struct, frozen=True):
    """The gateway's reference of an order whose ticket is unknown. `search_count`: searches so far."""

    value: str
    search_count: int = 0


class Feature(StrEnum):
    """An optional feature of an order. The docs and the contract tests iterate over this list."""

    MULTIPLE_IMAGES = "multiple images"
    PIXEL_SIZE = "size in pixels"
    PRESET_SIZE = "preset sizes"
    RATIO_SIZE = "ratio and resolution"
    QUALITY = "quality"
    OUTPUT_FORMAT = "output format"
    BACKGROUND = "background"
    INPUT_BYTES = "input bytes"
    INPUT_URLS = "input URLs"
    MASK = "mask"
    CALLBACK = "callback"


class Capabilities(Struct, frozen=True, kw_only=True):
    """The features of orders that an adapter supports. Each offer configures which of them are sold, and at which
    price.

    An operation without features cannot be ordered at all. `qualities`, `resolutions`: the only words that the seller
    accepts; None if it defines them per model.
    """

    generate_features: frozenset[Feature] = frozenset()
    edit_features: frozenset[Feature] = frozenset()
    max_images: int
    max_input_images: int = 0
    qualities: frozenset[str] | None = None
    resolutions: frozenset[str] | None = None

    @property
    def operations(self) -> tuple[Operation, ...]:
        return tuple(operation for operation in Operation if self.get_features(operation))

    def get_features(self, operation: Operation) -> frozenset[Feature]:
        return self.generate_features if operation is Operation.GENERATE else self.edit_features


class UnsupportedOrder(ValueError):
    """The adapter cannot express this order.

    An adapter never drops a parameter silently. The caller must make another plan.
    """


_SIZE_FEATURES = {
    PixelSize: Feature.PIXEL_SIZE,
    PresetSize: Feature.PRESET_SIZE,
    RatioSize: Feature.RATIO_SIZE,
}
_INPUT_FEATURES: dict[type, Feature] = {ImageBytes: Feature.INPUT_BYTES, ImageUrl: Feature.INPUT_URLS}


def get_used_features(order: Order) -> frozenset[Feature]:
    """Returns the features that this order uses."""
    optional = (
        (Feature.MULTIPLE_IMAGES, order.image_count > 1),
        (Feature.QUALITY, order.quality is not None),
        (Feature.OUTPUT_FORMAT, order.output_format is not None),
        (Feature.BACKGROUND, order.background is not None),
        (Feature.MASK, order.mask is not None),
        (Feature.CALLBACK, order.callback_url is not None),
    )
    images = (*order.input_images, *((order.mask,) if order.mask else ()))
    used = {_SIZE_FEATURES[type(order.size)], *[_INPUT_FEATURES[type(image)] for image in images]}
    return frozenset(used.union([feature for feature, is_used in optional if is_used]))


_REFERENCE_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)
_MODEL_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)


def _check_characters(order: Order) -> None:
    """Checks that reference, model and prompt are safe in a path, a header and a body."""
    if not _REFERENCE_PATTERN.fullmatch(order.reference):
        raise UnsupportedOrder("Invalid order reference: use 1 to 255 letters, digits or ._-")
    if not _MODEL_PATTERN.fullmatch(order.model):
        raise UnsupportedOrder("Invalid model id of the seller: use letters, digits and ._- between slashes")
    try:
        order.prompt.encode()
    except UnicodeEncodeError:
        raise UnsupportedOrder("Invalid prompt: it contains a lone surrogate, which UTF-8 cannot encode") from None


def _check_words(order: Order, capabilities: Capabilities) -> None:
    """Checks that the seller accepts the words of this order."""
    resolution = order.size.resolution if isinstance(order.size, RatioSize) else None
    for kind, word, known_words in (
        ("quality", order.quality, capabilities.qualities),
        ("resolution", resolution, capabilities.resolutions),
    ):
        if word is not None and known_words is not None and word not in known_words:
            known_names = ", ".join(sorted(known_words))
            raise UnsupportedOrder(f"the adapter does not support {kind} {word[:40]!r}; supported: {known_names}")


def check_supported(order: Order, capabilities: Capabilities) -> None:
    """Raises UnsupportedOrder if the adapter cannot express everything in this order."""
    _check_characters(order)
    if missing := get_used_features(order) - capabilities.get_features(order.operation):
        raise UnsupportedOrder(f"the adapter does not support: {', '.join(sorted(missing))}")
    _check_words(order, capabilities)
    if not 1 <= order.image_count <= capabilities.max_images:
        raise UnsupportedOrder(
            f"{order.image_count} images in one order; the adapter supports 1 to {capabilities.max_images}"
        )
    min_inputs, max_inputs = (1, capabilities.max_input_images) if order.operation is Operation.EDIT else (0, 0)
    if not min_inputs <= len(order.input_images) <= max_inputs:
        raise UnsupportedOrder(
            f"{len(order.input_images)} input images; the adapter supports {min_inputs} to {max_inputs}"
        )
