"""Maps parameter values of other clients (DALL-E, older SDKs) to this API's values.

Every change of meaning adds a warning; mere spelling (`HIGH`, `jpg`, `1024X1024`, `"1"`) adds none. Unknown values are
left for the validation that follows.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.catalogue import Catalogue

# Longer values are rejected by the validation, so they are not normalized.
MAX_WORD_LENGTH = 64


def has_dalle_model(fields: Mapping[str, Any], catalogue: Catalogue) -> bool:
    """Returns whether the request names a DALL-E model: then its client expects DALL-E's response."""
    model = fields.get("model")
    return isinstance(model, str) and model in catalogue.dalle_aliases


def normalize_fields(fields: Mapping[str, Any], is_dalle_client: bool) -> tuple[dict[str, Any], list[str]]:
    """Normalizes the fields of a request and drops those that are null. Returns them with warnings."""
    values: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in fields.items():
        if value is None:
            continue
        is_too_long = isinstance(value, str) and len(value) > MAX_WORD_LENGTH
        normalize = None if is_too_long else _SPELLING_NORMALIZERS.get(name)
        values[name] = normalize(value) if normalize else value
        if name in _REPLACEMENTS:
            warnings += _replace_value(name, values, is_dalle_client)
    return values, warnings


# --- spelling


def _to_word(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _to_size(value: Any) -> Any:
    return re.sub(r"\s*[x×*]\s*", "x", _to_word(value)) if isinstance(value, str) else value


def _to_integer(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,9}\s*", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _to_number(value: Any) -> Any:
    is_number = isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,9}(\.[0-9]{1,9})?\s*", value)
    return float(value) if is_number else value


def _to_boolean(value: Any) -> Any:
    word = _to_word(value)
    return word == "true" if word in ("true", "false") else value


_SPELLING_NORMALIZERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("quality", "output_format", "background", "moderation", "response_format"), _to_word),
    **dict.fromkeys(("style", "input_fidelity", "operation", "resolution", "aspect_ratio"), _to_word),
    "size": _to_size,
    **dict.fromkeys(("n", "output_compression", "partial_images"), _to_integer),
    "max_seconds": _to_number,
    "stream": _to_boolean,
}


# --- synonyms, and values without effect


class Replacement(Struct, frozen=True):
    """The value to use and the warning about it. DALL-E clients get no warning about an `is_dalle_word`."""

    value: str
    warning: str | None = None
    is_dalle_word: bool = False


def _replace_dalle_quality(word: str, value: str) -> Replacement:
    return Replacement(value, f"quality_mapped: '{word}' is a DALL-E value: {value} was ordered", True)


def _replace_small_size(size: str) -> Replacement:
    return Replacement("1024x1024", f"size_mapped: {size} is too small for this model: 1024x1024 was ordered instead")


def _keep_ignored_value(name: str, value: str, reason: str) -> Replacement:
    return Replacement(value, f"{name}_ignored: '{value}' has no effect: {reason}")


_NO_STYLES = "the model has no styles; describe the style in the prompt"
_NO_FIDELITY = "the model itself decides how closely it follows the input images"
_NO_MODERATION = "the sellers' own moderation applies"
_REPLACEMENTS: Mapping[str, Mapping[str, Replacement]] = {
    "quality": {"standard": _replace_dalle_quality("standard", "medium"), "hd": _replace_dalle_quality("hd", "high")},
    "output_format": {"jpg": Replacement("jpeg")},
    "size": {size: _replace_small_size(size) for size in ("256x256", "512x512")},
    "style": {value: _keep_ignored_value("style", value, _NO_STYLES) for value in ("vivid", "natural")},
    "input_fidelity": {value: _keep_ignored_value("input_fidelity", value, _NO_FIDELITY) for value in ("low", "high")},
    "moderation": {"low": _keep_ignored_value("moderation", "low", _NO_MODERATION)},
}


def _replace_value(name: str, values: dict[str, Any], is_dalle_client: bool) -> Iterator[str]:
    """Replaces the value in place and yields the warning, if any."""
    value = values[name]
    replacement = _REPLACEMENTS[name].get(value) if isinstance(value, str) else None
    if replacement is None:
        return
    values[name] = replacement.value
    if replacement.warning and not (is_dalle_client and replacement.is_dalle_word):
        yield replacement.warning
