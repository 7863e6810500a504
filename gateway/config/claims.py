"""What an offer claims, held against what its dialect has words for."""

from collections.abc import Iterator

from gateway.config.blocks import OfferConfig, Sizing
from gateway.config.findings import Finding
from providers.orders import Feature, Operation
from providers.sizes import RATIOS, Resolution
from providers.spec import Adapter


def claims_beyond(offer: OfferConfig, adapter: Adapter) -> Iterator[Finding]:
    """What an offer claims and its dialect has no words for."""
    speaks, name = adapter.speaks, adapter.name
    beyond = [
        (
            offer.images_per_order > speaks.most_images,
            f"can ask for {speaks.most_images} per order at most",
            "images_per_order",
        ),
        (offer.inputs > speaks.most_sources, f"can send {speaks.most_sources} at most", "inputs"),
        (offer.mask and Feature.MASK not in speaks.edit, "has no words for a mask", "mask"),
        (
            offer.quality.selectable and Feature.QUALITY not in speaks.generate,
            "has no words for a quality: say 'assumes' instead",
            "quality",
        ),
        (
            offer.formats and Feature.OUTPUT_FORMAT not in speaks.generate,
            "has no words for an output format",
            "formats",
        ),
    ]
    yield from (Finding(f"{name} {message}", (step,)) for is_beyond, message, step in beyond if is_beyond)
    if offer.edit is not None and offer.inputs < 1:
        yield Finding("edits need 'inputs' of at least 1", ("inputs",))
    for operation in Operation:
        sizing: Sizing | None = getattr(offer, operation)
        if sizing is not None:
            yield from _ways_beyond(sizing, operation, adapter)
            yield from _shapes_beyond(sizing, operation)


def _ways_beyond(sizing: Sizing, operation: Operation, adapter: Adapter) -> Iterator[Finding]:
    spoken, here = adapter.speaks.features(operation), operation.value
    claims = {
        "pixels": (sizing.pixels != "none", Feature.PIXELS),
        "presets": (bool(sizing.presets), Feature.PRESET),
        "ratios": (bool(sizing.ratios), Feature.SHAPE),
    }
    for name, (claimed, feature) in claims.items():
        if claimed and feature not in spoken:
            yield Finding(f"{adapter.name} has no words for {feature}", (here, name))
    if not any(claimed for claimed, _ in claims.values()):
        message = "no size can be ordered this way: say 'pixels', 'presets' or 'ratios'"
        yield Finding(message, (here,), tuple((here, name) for name in claims))


def _shapes_beyond(sizing: Sizing, operation: Operation) -> Iterator[Finding]:
    here = operation.value
    for number, ratio in enumerate(sizing.ratios):
        if ratio not in RATIOS:
            message = f"'{ratio}' is no ratio that sellers have words for; there is {', '.join(RATIOS)}"
            yield Finding(message, (here, "ratios", number))
    known = {f"{ratio}@{resolution}" for ratio in sizing.ratios for resolution in Resolution}
    for number, shape in enumerate(sizing.unsold):
        if shape not in known:
            message = f"'{shape}' is no shape of this offer: write it like 1:1@4k"
            yield Finding(message, (here, "unsold", number), ((here, "unsold", number), (here, "ratios")))
