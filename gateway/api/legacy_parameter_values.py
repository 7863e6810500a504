"""Maps parameter values of other clients (DALL-E, older SDKs) to the model's values, with a warning for each."""

from collections.abc import Callable
from typing import Any

from gateway.api.parameter_definition import Replacement
from gateway.catalogue import Model
from providers.image_sizes import SizeError, parse_size

# The quality that a DALL-E word means, if the model has it.
_QUALITIES_BY_DALLE_WORD = {"standard": "medium", "hd": "high"}
# The sizes of OpenAI's other image models, which their clients send to any model.
_OPENAI_SIZES = {
    size: parse_size(size)
    for size in ("256x256", "512x512", "1024x1024", "1536x1024", "1024x1536", "1792x1024", "1024x1792")
}


def map_quality(word: Any, model: Model | None) -> Replacement | None:
    """Maps DALL-E's qualities: `hd` without `high` is the best quality, `standard` without `medium` the default."""
    meant_quality = _QUALITIES_BY_DALLE_WORD.get(word) if isinstance(word, str) else None
    if meant_quality is None or model is None or word in model.qualities:
        return None
    fallback = model.qualities[-1] if word == "hd" else model.quality
    quality = meant_quality if meant_quality in model.qualities else fallback
    warning = f"quality_mapped: '{word}' is a DALL-E value: {quality} was ordered"
    return Replacement(quality, warning, is_dalle_word=True)


def map_alias(name: Any, model: Model | None) -> Replacement | None:
    """Replaces an alias by the name of its model."""
    if model is None or name == model.name:
        return None
    return Replacement(model.name, make_alias_warning(name, model))


def make_alias_warning(alias: str, model: Model) -> str:
    return f"model_alias: '{alias}' is an alias of '{model.name}', which makes the images"


def map_size(size: Any, model: Model | None) -> Replacement | None:
    """Maps OpenAI's usual sizes that the model does not have to the nearest size of the model."""
    pixels = _OPENAI_SIZES.get(size) if isinstance(size, str) else None
    if pixels is None or model is None or model.size_law.find_size_error(*pixels) is None:
        return None
    try:
        nearest = model.size_law.find_nearest_size(*pixels)
    except SizeError:
        return None
    mapped_size = f"{nearest.width}x{nearest.height}"
    return Replacement(
        mapped_size, f"size_mapped: {model.name} does not have {size}: {mapped_size} was ordered instead"
    )


def warn_about(name: str, values: tuple[Any, ...], reason: str) -> Callable[[Any, Model | None], Replacement | None]:
    """Returns a function that keeps these values and warns that they have no effect."""

    def keep_value(value: Any, _: Model | None) -> Replacement | None:
        if not isinstance(value, type(values[0])) or value not in values:
            return None
        return Replacement(value, f"{name}_ignored: '{value}' has no effect: {reason}")

    return keep_value


def warn_unless(
    name: str, quiet_values: tuple[Any, ...], reason: str
) -> Callable[[Any, Model | None], Replacement | None]:
    """Returns a function that keeps every value, and warns that it has no effect unless it is one of these values."""

    def keep_value(value: Any, _: Model | None) -> Replacement | None:
        return None if value in quiet_values else Replacement(value, f"{name}_ignored: it has no effect: {reason}")

    return keep_value
