"""What is asked: a team's request, and an order for one seller."""

import re
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from providers.image_sizes import Resolution, TargetSize


class Operation(StrEnum):
    GENERATE = "generate"
    EDIT = "edit"


class Quality(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Cell(Struct, frozen=True, order=True, array_like=True):
    """Operation, resolution tier and quality of an order: the unit of price, health and latency."""

    operation: Operation
    resolution: Resolution
    quality: Quality


ALL_CELLS = tuple(
    Cell(operation, resolution, quality) for operation in Operation for resolution in Resolution for quality in Quality
)


class Format(StrEnum):
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def media_type(self) -> str:
        return f"image/{self}"


class ImageBytes(Struct, frozen=True, tag=True):
    """An input image as bytes that travel with the order."""

    data: bytes
    media_type: str
    name: str


class ImageUrl(Struct, frozen=True, tag=True):
    """An image as an address, from which the seller fetches an input, or we an output."""

    url: str


ImageSource = ImageBytes | ImageUrl


class ImageRequest(Struct, frozen=True, kw_only=True):
    """What a team asks, checked and in our words: before it is known who will be paid for it.

    `has_explicit_size` and `has_explicit_quality` tell a wish from a default: only a wish can be disappointed.
    """

    operation: Operation
    model: str
    prompt: str
    n: int
    target: TargetSize
    quality: Quality
    output_format: Format
    has_explicit_size: bool = False
    has_explicit_quality: bool = False
    input_images: tuple[ImageSource, ...] = ()
    mask: ImageSource | None = None
    metadata: Mapping[str, str] = {}


class PixelSize(Struct, frozen=True, tag=True):
    """A size addressed by its exact pixels."""

    width: int
    height: int


class PresetSize(Struct, frozen=True, tag=True):
    """A size addressed by the seller's own name for it."""

    name: str


class RatioSize(Struct, frozen=True, tag=True):
    """A size addressed by ratio and tier; which pixels that makes is the seller's business."""

    ratio: str
    resolution: Resolution


class AutoSize(Struct, frozen=True, tag=True):
    """The seller takes the size from the inputs."""


SizeSpec = PixelSize | PresetSize | RatioSize | AutoSize


class Order(Struct, frozen=True, kw_only=True):
    """One purchase from one seller. `model` is the seller's own id; `reference` is ours, unique to the attempt."""

    reference: str
    operation: Operation
    model: str
    prompt: str
    size: SizeSpec
    output_format: Format | None = None
    quality: Quality | None = None
    image_count: int = 1
    input_images: tuple[ImageSource, ...] = ()
    mask: ImageSource | None = None
    callback_url: str | None = None
    metadata: Mapping[str, str] = {}


class Ticket(Struct, frozen=True):
    """What we come back with to ask about an order: the seller's id, and what was ordered where."""

    id: str
    operation: Operation
    model: str


class OrderReference(Struct, frozen=True):
    """Our own name for an order whose ticket we never saw. `search_count` counts the searches before this one."""

    value: str
    search_count: int = 0


class Feature(StrEnum):
    """What an order may make use of beyond a prompt and a model. Docs and contract tests go by this list."""

    MULTIPLE_IMAGES = "multiple images"
    PIXEL_SIZE = "size in pixels"
    PRESET_SIZE = "preset sizes"
    RATIO_SIZE = "ratio and tier"
    AUTO_SIZE = "size from the inputs"
    QUALITY = "quality"
    OUTPUT_FORMAT = "output format"
    INPUT_BYTES = "input bytes"
    INPUT_URLS = "input URLs"
    MASK = "mask"
    CALLBACK = "callback"
    METADATA = "metadata"


class Capabilities(Struct, frozen=True, kw_only=True):
    """What a dialect has words for. Which of it is sold, and for how much, is a datum of each offer.

    An operation without any feature is one that it cannot order at all.
    """

    generate_features: frozenset[Feature] = frozenset()
    edit_features: frozenset[Feature] = frozenset()
    max_images: int
    max_input_images: int = 0

    @property
    def operations(self) -> tuple[Operation, ...]:
        return tuple(operation for operation in Operation if self.get_features(operation))

    def get_features(self, operation: Operation) -> frozenset[Feature]:
        return self.generate_features if operation is Operation.GENERATE else self.edit_features


class UnsupportedOrder(ValueError):
    """The dialect has no words for this order. Never bend a request in silence: whoever planned it must plan again."""


_SIZE_FEATURES = {
    PixelSize: Feature.PIXEL_SIZE,
    PresetSize: Feature.PRESET_SIZE,
    RatioSize: Feature.RATIO_SIZE,
    AutoSize: Feature.AUTO_SIZE,
}


def get_used_features(order: Order) -> frozenset[Feature]:
    """Everything this order makes use of."""
    images = (*order.input_images, *((order.mask,) if order.mask else ()))
    used = {
        Feature.MULTIPLE_IMAGES: order.image_count > 1,
        Feature.QUALITY: order.quality is not None,
        Feature.OUTPUT_FORMAT: order.output_format is not None,
        Feature.INPUT_BYTES: any(isinstance(image, ImageBytes) for image in images),
        Feature.INPUT_URLS: any(isinstance(image, ImageUrl) for image in images),
        Feature.MASK: order.mask is not None,
        Feature.CALLBACK: order.callback_url is not None,
        Feature.METADATA: bool(order.metadata),
    }
    return frozenset({_SIZE_FEATURES[type(order.size)], *(feature for feature, is_used in used.items() if is_used)})


_REFERENCE_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)
_MODEL_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)


def _check_characters(order: Order) -> None:
    """What becomes part of a path, a header or a body must be fit for it, in every dialect alike."""
    if not _REFERENCE_PATTERN.fullmatch(order.reference):
        raise UnsupportedOrder("a reference may hold 1 to 255 letters, digits and ._- only")
    if not _MODEL_PATTERN.fullmatch(order.model):
        raise UnsupportedOrder("a seller's model is named by letters, digits and ._- between slashes")
    try:
        order.prompt.encode()
    except UnicodeEncodeError:
        raise UnsupportedOrder("the prompt holds half a character (a lone surrogate)") from None


def check_supported(order: Order, capabilities: Capabilities) -> None:
    """Raises InexpressibleError for whatever in this order the dialect would have to leave out."""
    _check_characters(order)
    if missing := get_used_features(order) - capabilities.get_features(order.operation):
        raise UnsupportedOrder(f"no words for: {', '.join(sorted(missing))}")
    if not 1 <= order.image_count <= capabilities.max_images:
        raise UnsupportedOrder(
            f"{order.image_count} images in one order; at most {capabilities.max_images} can be asked for"
        )
    min_inputs, max_inputs = (1, capabilities.max_input_images) if order.operation is Operation.EDIT else (0, 0)
    if not min_inputs <= len(order.input_images) <= max_inputs:
        raise UnsupportedOrder(f"{len(order.input_images)} input images; {min_inputs} to {max_inputs} can be sent")
