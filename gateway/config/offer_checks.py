"""Checks of offers: their names, their prices and seconds, and that the adapter supports what they configure."""

from collections.abc import Iterator, Mapping, Sequence

from gateway.config.findings import Finding, OptionPath, check_name
from gateway.config.model_schema import ModelConfig
from gateway.config.offer_schema import ANY_QUALITY, OfferConfig, OfferFile, SizeOptions
from gateway.config.schema import Config
from gateway.suggestions import did_you_mean
from providers.adapter import Adapter
from providers.image_sizes import RATIOS
from providers.orders import Cell, Feature, Operation


def check_offers(config: Config, file: OfferFile, adapters: Mapping[str, Adapter]) -> Iterator[Finding]:
    """Checks the offers of one seller's file."""
    yield from check_name("account", file.account, config.accounts.accounts, "account")
    yield from check_name("adapter", file.adapter, adapters, "adapter")
    adapter = adapters.get(file.adapter)
    for name, offer in file.offers.items():
        yield from check_name("model", name, config.models.models, "offers", name)
        model = config.models.models.get(name)
        findings = [*_check_capabilities(offer, adapter)] if adapter else []
        if model is not None:
            word_findings = [*_check_words(name, model, offer)]
            findings += word_findings or [*_check_prices(model, offer), *_check_seconds(model, offer)]
            findings += _check_adapter_words(model, offer, adapter) if adapter and not word_findings else ()
            findings += _check_unsold(model, offer)
        for finding in findings:
            yield Finding(finding.message, ("offers", name, *finding.path))


def _check_words(name: str, model: ModelConfig, offer: OfferConfig) -> Iterator[Finding]:
    """Checks that the model has every quality, resolution, format and background of its offer."""
    known = {
        "quality": list(map(str, model.qualities)),
        "resolution": list(map(str, model.sizes.tiers)),
        "format": list(map(str, model.formats)),
        "background": list(map(str, model.backgrounds)),
    }
    for kind, word, path in _list_words(offer):
        if word not in known[kind]:
            yield Finding(f"Model '{name}' has no {kind} '{word}'{did_you_mean(word, known[kind])}", path)


def _list_words(offer: OfferConfig) -> Iterator[tuple[str, str, OptionPath]]:
    """Lists the model's words in an offer: kind, word, and path of the option."""
    lists: list[tuple[str, Sequence[str], OptionPath]] = [
        ("quality", offer.quality.selectable, ("quality", "selectable")),
        ("format", offer.formats, ("formats",)),
        ("background", offer.backgrounds, ("backgrounds",)),
    ]
    for index, row in enumerate(offer.prices):
        lists.append(("quality", row.qualities or (), ("prices", index, "qualities")))
        lists.append(("resolution", row.resolutions or (), ("prices", index, "resolutions")))
    for operation in Operation:
        size_options: SizeOptions | None = getattr(offer, operation)
        resolutions = (size_options.resolutions if size_options else None) or ()
        lists.append(("resolution", resolutions, (operation.value, "resolutions")))
    for kind, words, path in lists:
        for index, word in enumerate(words):
            yield kind, str(word), (*path, index)
    if offer.quality.assumes is not None:
        yield "quality", offer.quality.assumes, ("quality", "assumes")
    for word in offer.seconds:
        if word != ANY_QUALITY:
            yield "quality", word, ("seconds", word)


def _check_adapter_words(model: ModelConfig, offer: OfferConfig, adapter: Adapter) -> Iterator[Finding]:
    """Checks that the seller accepts the words of the orders."""
    words = [offer.quality.words.get(quality, quality) for quality in offer.quality.selectable]
    yield from _check_known_words(adapter, "quality", words, ("quality",))
    for operation in Operation:
        size_options: SizeOptions | None = getattr(offer, operation)
        if size_options is not None and size_options.ratios:
            tiers = model.sizes.tiers if size_options.resolutions is None else size_options.resolutions
            path = operation.value, "resolutions"
            yield from _check_known_words(adapter, "resolution", list(map(str, tiers)), path)


def _check_known_words(adapter: Adapter, kind: str, words: Sequence[str], path: OptionPath) -> Iterator[Finding]:
    capabilities = adapter.capabilities
    known_words = capabilities.qualities if kind == "quality" else capabilities.resolutions
    unknown_words = [word for word in words if known_words is not None and word not in known_words]
    if known_words is not None and unknown_words:
        advice = ". Map it with 'words'" if kind == "quality" else ""
        message = f"{adapter.name} has no {kind} '{unknown_words[0]}', only {', '.join(sorted(known_words))}{advice}"
        yield Finding(message, path)


def _check_prices(model: ModelConfig, offer: OfferConfig) -> Iterator[Finding]:
    rows: dict[Cell, int] = {}
    for index, row in enumerate(offer.prices):
        cells = row.list_cells(model)
        if duplicate := next((cell for cell in cells if cell in rows), None):
            cell = f"{duplicate.operation} {duplicate.resolution} {duplicate.quality}"
            message = f"Duplicate price for {cell}; the first is in row {rows[duplicate] + 1}"
            yield Finding(message, ("prices", index))
        rows |= {cell: index for cell in cells if cell not in rows}
    for operation in Operation:
        if getattr(offer, operation) is None and any(cell.operation is operation for cell in rows):
            yield Finding(f"Prices for '{operation}' need the option '{operation}', with its sizes", ("prices",))
    if not rows:
        yield Finding("Missing prices. Add at least one price row", ("prices",))


def _check_seconds(model: ModelConfig, offer: OfferConfig) -> Iterator[Finding]:
    missing = [str(quality) for quality in model.qualities if not offer.seconds.keys() & {str(quality), ANY_QUALITY}]
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
        (
            offer.backgrounds and Feature.BACKGROUND not in capabilities.generate_features,
            "does not support a background",
            "backgrounds",
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


def _check_unsold(model: ModelConfig, offer: OfferConfig) -> Iterator[Finding]:
    for operation in Operation:
        size_options: SizeOptions | None = getattr(offer, operation)
        ratios, unsold = (size_options.ratios, size_options.unsold) if size_options else ((), ())
        known_shapes = {f"{ratio}@{tier}" for ratio in ratios for tier in model.sizes.tiers}
        for index, shape in enumerate(unsold):
            if shape not in known_shapes:
                message = f"Invalid value '{shape}'. Use a ratio of this offer and a tier, like 1:1@4k"
                yield Finding(message, (operation.value, "unsold", index))
