"""Orders made from what a dialect says it has words for, so that every adapter is asked for all it can say."""

from msgspec import structs

from providers.orders import (
    AutoSize,
    Feature,
    Format,
    Inline,
    Link,
    Operation,
    Order,
    Pixels,
    Preset,
    Quality,
    Shape,
    Source,
)
from providers.sizes import Resolution
from providers.spec import Adapter
from tests.contract import cases

INLINE = Inline(b"\x89PNG\r\n\x1a\n", "image/png", "in.png")
LINK = Link("https://files.example.net/in.png")
SIZES = {
    Feature.PIXELS: Pixels(1024, 768),
    Feature.PRESET: Preset("square_hd"),
    Feature.SHAPE: Shape("16:9", Resolution.TWO_K),
    Feature.AUTO_SIZE: AutoSize(),
}
OTHER_SIZES = {
    Feature.PIXELS: Pixels(1536, 1024),
    Feature.PRESET: Preset("portrait_4_3"),
    Feature.SHAPE: Shape("1:1", Resolution.ONE_K),
}


def plain(adapter: Adapter, operation: Operation) -> Order:
    """The simplest order that the dialect has words for."""
    spoken = adapter.speaks.features(operation)
    size = next(size for feature, size in SIZES.items() if feature in spoken)
    return Order(
        reference="igw-0f-7k2m-0-1",
        operation=operation,
        model=cases.model(adapter),
        prompt="a lighthouse at dawn",
        size=size,
        sources=(a_source(adapter, operation),) if operation is Operation.EDIT else (),
    )


def a_source(adapter: Adapter, operation: Operation) -> Source:
    return INLINE if Feature.INLINE_SOURCES in adapter.speaks.features(operation) else LINK


def using(order: Order, feature: Feature) -> Order:
    """The same order making use of one more feature."""
    linked = any(isinstance(source, Link) for source in order.sources)
    changes: dict[Feature, dict[str, object]] = {
        Feature.SEVERAL_IMAGES: {"images": 2},
        Feature.QUALITY: {"quality": Quality.LOW},
        Feature.OUTPUT_FORMAT: {"output_format": Format.WEBP},
        Feature.INLINE_SOURCES: {"sources": (INLINE, INLINE)},
        Feature.LINKED_SOURCES: {"sources": (LINK, LINK)},
        Feature.MASK: {"mask": LINK if linked else INLINE},
        Feature.CALLBACK: {"callback_url": "https://gateway.example.net/callbacks/x"},
        Feature.METADATA: {"metadata": {"team": "design"}},
    }
    if feature in SIZES:
        same = type(order.size) is type(SIZES[feature])
        return structs.replace(order, size=OTHER_SIZES[feature] if same else SIZES[feature])
    return structs.replace(order, **changes[feature])


def everything(adapter: Adapter, operation: Operation) -> Order:
    """An order that uses all that the dialect can say at once."""
    order = plain(adapter, operation)
    for feature in sorted(adapter.speaks.features(operation) - SIZES.keys()):
        order = using(order, feature)
    return order
