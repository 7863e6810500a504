"""Checks of offers: their names, their prices and seconds, and that the adapter supports what they configure."""

from collections.abc import Iterator, Mapping

from gateway.config.findings import Finding, check_name
from gateway.config.offer_schema import OfferConfig, OfferFile, SizeOptions
from gateway.config.schema import Config
from providers.adapter import Adapter
from providers.image_sizes import RATIOS, Resolution
from providers.orders import Cell, Feature, Operation, Quality


def check_offers(config: Config, file: OfferFile, adapters: Mapping[str, Adapter]) -> Iterator[Finding]:
    """Checks the offers of one seller's file."""
    yield from check_name("account", file.account, config.accounts.accounts, "account")
    yield from check_name("adapter", file.adapter, adapters, "adapter")
    adapter = adapters.get(file.adapter)
    for model, offer in file.offers.items():
        yield from check_name("model", model, config.models.models, "offers", model)
        capability_findings = _check_capabilities(offer, adapter) if adapter else ()
        for finding in (*capability_findings, *_check_prices(offer), *_check_seconds(offer)):
            yield Finding(finding.message, ("offers", model, *finding.path))


def _check_prices(offer: OfferConfig) -> Iterator[Finding]:
    rows: dict[Cell, int] = {}
    for index, row in enumerate(offer.prices):
        if duplicate := next((cell for cell in row.cells if cell in rows), None):
            cell = f"{duplicate.operation} {duplicate.resolution} {duplicate.quality}"
            message = f"Duplicate price for {cell}; the first is in row {rows[duplicate] + 1}"
            yield Finding(message, ("prices", index))
        rows |= {cell: index for cell in row.cells if cell not in rows}
    for operation in Operation:
        if getattr(offer, operation) is None and any(cell.operation is operation for cell in rows):
            yield Finding(f"Prices for '{operation}' need a '{operation}' block with its sizes", ("prices",))
    if not rows:
        yield Finding("Missing prices. Add at least one price row", ("prices",))


def _check_seconds(offer: OfferConfig) -> Iterator[Finding]:
    missing = [quality for quality in Quality if not offer.seconds.keys() & {quality.value, "any"}]
    if missing:
        message = f"Missing expected seconds for {', '.join(missing)}. Add them, or 'any' for all"
        yield Finding(message, ("seconds",))


def _check_capabilities(offer: OfferConfig, adapter: Adapter) -> Iterator[Finding]:
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
        yield Finding(message, (operation_name,))


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
            yield Finding(message, (operation_name, "unsold", index))
