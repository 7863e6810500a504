"""Maps parameter values of other clients (DALL-E, older SDKs) to this API's values, with a warning for each."""

from collections.abc import Callable
from typing import Any

from gateway.api.parameter_rows import Replacement

_QUALITIES_BY_DALLE_WORD = {"standard": "medium", "hd": "high"}
_SMALL_SIZES = ("256x256", "512x512")


def map_quality(word: Any) -> Replacement | None:
    quality = _QUALITIES_BY_DALLE_WORD.get(word) if isinstance(word, str) else None
    if quality is None:
        return None
    warning = f"quality_mapped: '{word}' is a DALL-E value: {quality} was ordered"
    return Replacement(quality, warning, is_dalle_word=True)


def map_size(size: Any) -> Replacement | None:
    if size not in _SMALL_SIZES:
        return None
    warning = f"size_mapped: {size} is too small for this model: 1024x1024 was ordered instead"
    return Replacement("1024x1024", warning)


def warn_about(name: str, values: tuple[Any, ...], reason: str) -> Callable[[Any], Replacement | None]:
    """Returns a function that keeps these values and warns that they have no effect."""

    def keep_value(value: Any) -> Replacement | None:
        if not isinstance(value, type(values[0])) or value not in values:
            return None
        return Replacement(value, f"{name}_ignored: '{value}' has no effect: {reason}")

    return keep_value
