"""Orders made from an adapter's capabilities, so that the tests use each of its features."""

from msgspec import structs

from providers.adapter import Adapter
from providers.orders import (
    Feature,
    Format,
    ImageBytes,
    ImageSource,
    ImageUrl,
    Operation,
    Order,
    PixelSize,
    PresetSize,
    RatioSize,
)
from tests.contract import fixture_cases

INLINE_IMAGE = ImageBytes(b"\x89PNG\r\n\x1a\n", "image/png", "in.png")
IMAGE_URL = ImageUrl("https://files.example.net/in.png")
SIZES_BY_FEATURE = {
    Feature.PIXEL_SIZE: PixelSize(1024, 768),
    Feature.PRESET_SIZE: PresetSize("square_hd"),
    Feature.RATIO_SIZE: RatioSize("16:9", "2k"),
}
OTHER_SIZES_BY_FEATURE = {
    Feature.PIXEL_SIZE: PixelSize(1536, 1024),
    Feature.PRESET_SIZE: PresetSize("portrait_4_3"),
    Feature.RATIO_SIZE: RatioSize("1:1", "1k"),
}


def make_minimal_order(adapter: Adapter, operation: Operation) -> Order:
    """Makes the simplest order that the adapter supports."""
    features = adapter.capabilities.get_features(operation)
    size = next(size for feature, size in SIZES_BY_FEATURE.items() if feature in features)
    return Order(
        reference="igw-0f-7k2m-0-1",
        operation=operation,
        model=fixture_cases.get_model(adapter),
        prompt="a lighthouse at dawn",
        size=size,
        input_images=(make_input_image(adapter, operation),) if operation is Operation.EDIT else (),
    )


def make_input_image(adapter: Adapter, operation: Operation) -> ImageSource:
    return INLINE_IMAGE if Feature.INPUT_BYTES in adapter.capabilities.get_features(operation) else IMAGE_URL


def add_feature(order: Order, feature: Feature) -> Order:
    """Returns the same order with one more feature."""
    has_image_urls = any(isinstance(image, ImageUrl) for image in order.input_images)
    changes: dict[Feature, dict[str, object]] = {
        Feature.MULTIPLE_IMAGES: {"image_count": 2},
        Feature.QUALITY: {"quality": "low"},
        Feature.OUTPUT_FORMAT: {"output_format": Format.WEBP},
        Feature.BACKGROUND: {"background": "transparent"},
        Feature.INPUT_BYTES: {"input_images": (INLINE_IMAGE, INLINE_IMAGE)},
        Feature.INPUT_URLS: {"input_images": (IMAGE_URL, IMAGE_URL)},
        Feature.MASK: {"mask": IMAGE_URL if has_image_urls else INLINE_IMAGE},
        Feature.CALLBACK: {"callback_url": "https://gateway.example.net/callbacks/x"},
    }
    if feature in SIZES_BY_FEATURE:
        has_this_size = type(order.size) is type(SIZES_BY_FEATURE[feature])
        return structs.replace(
            order, size=OTHER_SIZES_BY_FEATURE[feature] if has_this_size else SIZES_BY_FEATURE[feature]
        )
    return structs.replace(order, **changes[feature])


def make_full_order(adapter: Adapter, operation: Operation) -> Order:
    """Makes an order that uses all features of the adapter at once."""
    order = make_minimal_order(adapter, operation)
    for feature in sorted(adapter.capabilities.get_features(operation) - SIZES_BY_FEATURE.keys()):
        order = add_feature(order, feature)
    return order
