"""What is asked: a team's request, and an order for one seller."""

import re
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from providers.sizes import Resolution, Target


class Operation(StrEnum):
    GENERATE = "generate"
    EDIT = "edit"


class Quality(StrEnum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Format(StrEnum):
    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


class Inline(Struct, frozen=True, tag=True):
    """An input image as bytes that travel with the order."""

    data: bytes
    media_type: str
    name: str


class Link(Struct, frozen=True, tag=True):
    """An image as an address, from which the seller fetches an input, or we an output."""

    url: str


Source = Inline | Link


class ImageRequest(Struct, frozen=True, kw_only=True):
    """What a team asks, checked and in our words: before it is known who will be paid for it.

    `pixels_asked` and `quality_asked` tell a wish from a default: only a wish can be disappointed.
    """

    operation: Operation
    model: str
    prompt: str
    n: int
    target: Target
    quality: Quality
    output_format: Format
    pixels_asked: bool = False
    quality_asked: bool = False
    sources: tuple[Source, ...] = ()
    mask: Source | None = None
    metadata: Mapping[str, str] = {}


class Pixels(Struct, frozen=True, tag=True):
    """A size addressed by its exact pixels."""

    width: int
    height: int


class Preset(Struct, frozen=True, tag=True):
    """A size addressed by the seller's own name for it."""

    name: str


class Shape(Struct, frozen=True, tag=True):
    """A size addressed by ratio and tier; which pixels that makes is the seller's business."""

    ratio: str
    resolution: Resolution


class AutoSize(Struct, frozen=True, tag=True):
    """The seller takes the size from the inputs."""


Addressing = Pixels | Preset | Shape | AutoSize


class Order(Struct, frozen=True, kw_only=True):
    """One purchase from one seller. `model` is the seller's own id; `reference` is ours, unique to the attempt."""

    reference: str
    operation: Operation
    model: str
    prompt: str
    size: Addressing
    output_format: Format | None = None
    quality: Quality | None = None
    images: int = 1
    sources: tuple[Source, ...] = ()
    mask: Source | None = None
    callback_url: str | None = None
    metadata: Mapping[str, str] = {}


class Ticket(Struct, frozen=True):
    """What we come back with to ask about an order: the seller's id, and what was ordered where."""

    id: str
    operation: Operation
    model: str


class Reference(Struct, frozen=True):
    """Our own name for an order whose ticket we never saw. `asked` counts the searches before this one."""

    value: str
    asked: int = 0


class Feature(StrEnum):
    """What an order may make use of beyond a prompt and a model. Docs and contract tests go by this list."""

    SEVERAL_IMAGES = "several images"
    PIXELS = "size in pixels"
    PRESET = "preset sizes"
    SHAPE = "ratio and tier"
    AUTO_SIZE = "size from the inputs"
    QUALITY = "quality"
    OUTPUT_FORMAT = "output format"
    INLINE_SOURCES = "inputs as bytes"
    LINKED_SOURCES = "inputs as links"
    MASK = "mask"
    CALLBACK = "callback"
    METADATA = "metadata"


class Speaks(Struct, frozen=True, kw_only=True):
    """What a dialect has words for. Which of it is sold, and for how much, is a datum of each offer.

    An operation without any feature is one that it cannot order at all.
    """

    generate: frozenset[Feature] = frozenset()
    edit: frozenset[Feature] = frozenset()
    most_images: int
    most_sources: int = 0

    @property
    def operations(self) -> tuple[Operation, ...]:
        return tuple(operation for operation in Operation if self.features(operation))

    def features(self, operation: Operation) -> frozenset[Feature]:
        return self.generate if operation is Operation.GENERATE else self.edit


class InexpressibleError(ValueError):
    """The dialect has no words for this order. Never bend a request in silence: whoever planned it must plan again."""


_ADDRESSED_BY = {
    Pixels: Feature.PIXELS,
    Preset: Feature.PRESET,
    Shape: Feature.SHAPE,
    AutoSize: Feature.AUTO_SIZE,
}


def features_of(order: Order) -> frozenset[Feature]:
    """Everything this order makes use of."""
    images = (*order.sources, *((order.mask,) if order.mask else ()))
    used = {
        Feature.SEVERAL_IMAGES: order.images > 1,
        Feature.QUALITY: order.quality is not None,
        Feature.OUTPUT_FORMAT: order.output_format is not None,
        Feature.INLINE_SOURCES: any(isinstance(image, Inline) for image in images),
        Feature.LINKED_SOURCES: any(isinstance(image, Link) for image in images),
        Feature.MASK: order.mask is not None,
        Feature.CALLBACK: order.callback_url is not None,
        Feature.METADATA: bool(order.metadata),
    }
    return frozenset({_ADDRESSED_BY[type(order.size)], *(feature for feature, is_used in used.items() if is_used)})


_REFERENCE = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)


def _require_plain(order: Order) -> None:
    """What becomes part of a path, a header or a body must be fit for it, in every dialect alike."""
    if not _REFERENCE.fullmatch(order.reference):
        raise InexpressibleError("a reference may hold 1 to 255 letters, digits and ._- only")
    if not _MODEL.fullmatch(order.model):
        raise InexpressibleError("a seller's model is named by letters, digits and ._- between slashes")
    try:
        order.prompt.encode()
    except UnicodeEncodeError:
        raise InexpressibleError("the prompt holds half a character (a lone surrogate)") from None


def require_words(order: Order, speaks: Speaks) -> None:
    """Raises InexpressibleError for whatever in this order the dialect would have to leave out."""
    _require_plain(order)
    if missing := features_of(order) - speaks.features(order.operation):
        raise InexpressibleError(f"no words for: {', '.join(sorted(missing))}")
    if not 1 <= order.images <= speaks.most_images:
        raise InexpressibleError(f"{order.images} images in one order; at most {speaks.most_images} can be asked for")
    fewest, most = (1, speaks.most_sources) if order.operation is Operation.EDIT else (0, 0)
    if not fewest <= len(order.sources) <= most:
        raise InexpressibleError(f"{len(order.sources)} input images; {fewest} to {most} can be sent")
