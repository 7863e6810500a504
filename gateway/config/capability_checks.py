"""Checks that an adapter supports what an offer configures."""

from collections.abc import Iterator

from gateway.config.findings import Finding
from gateway.config.offer_schema import OfferConfig, SizeOptions
from providers.adapter import Adapter
from providers.image_sizes import RATIOS, Resolution
from providers.orders import Feature, Operation


def check_capabilities(offer: OfferConfig, adapter: Adapter) -> Iterator[Finding]:
    """Yields a finding for each option of an offer that its adapter does not support."""
    capabilities, name = adapter.capabilities, adapter.name
    checks = [
        (
            offer.images_per_order > capabilities.max_images,
            f"supports at most {capabilities.max_images} images per order",
            "images_per_order",
        ),
        (
            offer.inputs > capabilities.max_input_images,
            f"supports at most {capabilities.max_input_images} input images",
            "inputs",
        ),
        (offer.mask and Feature.MASK not in capabilities.edit_features, "does not support a mask", "mask"),
        (
            offer.quality.selectable and Feature.QUALITY not in capabilities.generate_features,
            "does not support a quality. Use 'assumes' instead",
            "quality",
        ),
        (
            offer.formats and Feature.OUTPUT_FORMAT not in capabilities.generate_features,
            "does not support an output format",
            "formats",
        ),
    ]
    yield from (Finding(f"{name} {message}", (option,)) for exceeds, message, option in checks if exceeds)
    if offer.edit is not None and offer.inputs < 1:
        yield Finding("Edits need 'inputs' of at least 1", ("inputs",))
    for operation in Operation:
        size_options: SizeOptions | None = getattr(offer, operation)
        if size_options is not None:
            yield from _check_size_features(size_options, operation, adapter)
            yield from _check_ratios(size_options, operation)


def _check_size_features(size_options: SizeOptions, operation: Operation, adapter: Adapter) -> Iterator[Finding]:
    supported, operation_name = adapter.capabilities.get_features(operation), operation.value
    claims = {
        "pixels": (size_options.pixels != "none", Feature.PIXEL_SIZE),
        "presets": (bool(size_options.presets), Feature.PRESET_SIZE),
        "ratios": (bool(size_options.ratios), Feature.RATIO_SIZE),
    }
    for name, (is_claimed, feature) in claims.items():
        if is_claimed and feature not in supported:
            yield Finding(f"{adapter.name} does not support {feature}", (operation_name, name))
    if not any(is_claimed for is_claimed, _ in claims.values()):
        message = "Missing size option. Set 'pixels', 'presets' or 'ratios'"
        yield Finding(message, (operation_name,), tuple((operation_name, name) for name in claims))


def _check_ratios(size_options: SizeOptions, operation: Operation) -> Iterator[Finding]:
    operation_name = operation.value
    for index, ratio in enumerate(size_options.ratios):
        if ratio not in RATIOS:
            message = f"Unsupported ratio '{ratio}'; supported: {', '.join(RATIOS)}"
            yield Finding(message, (operation_name, "ratios", index))
    known_shapes = {f"{ratio}@{resolution}" for ratio in size_options.ratios for resolution in Resolution}
    for index, shape in enumerate(size_options.unsold):
        if shape not in known_shapes:
            message = f"Invalid value '{shape}'. Use a ratio of this offer and a tier, like 1:1@4k"
            yield Finding(
                message,
                (operation_name, "unsold", index),
                ((operation_name, "unsold", index), (operation_name, "ratios")),
            )
