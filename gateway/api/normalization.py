"""Rewrites the fields of a body from the words of known clients into the words of this API.

Nothing is changed or ignored without a warning. What only differs in its spelling (`HIGH`, `jpg`, `1024X1024`, `"1"`)
needs none. Values that are no known word are left as they are, for the strict check that follows.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from gateway.catalogue import Catalogue

# No word is longer; what is longer is refused later, and not searched here.
MAX_WORD_LENGTH = 64


class NormalizedFields(Struct, frozen=True):
    """`is_dalle`: the model was asked for by a name of DALL-E, so the client expects an answer in its form."""

    values: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    is_dalle: bool = False


def normalize_fields(fields: Mapping[str, Any], catalogue: Catalogue) -> NormalizedFields:
    """A field that is null is one that is not there."""
    model = fields.get("model")
    is_dalle = isinstance(model, str) and model in catalogue.dalle_aliases
    values: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in fields.items():
        if value is not None:
            values[name] = _normalize_spelling(name, value)
            warnings += _replace(name, values, is_dalle)
    return NormalizedFields(values, tuple(warnings), is_dalle)


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


_SPELLINGS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("quality", "output_format", "background", "moderation", "response_format"), _to_word),
    **dict.fromkeys(("style", "input_fidelity", "operation", "resolution", "aspect_ratio"), _to_word),
    "size": _to_size,
    **dict.fromkeys(("n", "output_compression", "partial_images"), _to_integer),
    "max_seconds": _to_number,
    "stream": _to_boolean,
}


def _normalize_spelling(name: str, value: Any) -> Any:
    spell = _SPELLINGS.get(name)
    is_too_long = isinstance(value, str) and len(value) > MAX_WORD_LENGTH
    return value if spell is None or is_too_long else spell(value)


# --- other words for the same, and what has no effect


class Replacement(Struct, frozen=True):
    """What a word becomes, and the warning about it; a client of DALL-E needs none about a `is_dalle_word`."""

    value: str
    warning: str | None = None
    is_dalle_word: bool = False


def _dalle_quality(word: str, value: str) -> Replacement:
    return Replacement(value, f"quality_mapped: '{word}' is a word of DALL-E: {value} was ordered", True)


def _too_small(size: str) -> Replacement:
    return Replacement("1024x1024", f"size_mapped: {size} is too small for this model: 1024x1024 was ordered instead")


def _ignored(name: str, value: str, reason: str) -> Replacement:
    return Replacement(value, f"{name}_ignored: '{value}' has no effect: {reason}")


_NO_STYLES = "the model has no styles, say it in the prompt"
_NO_FIDELITY = "the model decides by itself how closely it keeps to the input images"
_NO_MODERATION = "the sellers' own moderation applies"
_REPLACEMENTS: Mapping[str, Mapping[str, Replacement]] = {
    "quality": {"standard": _dalle_quality("standard", "medium"), "hd": _dalle_quality("hd", "high")},
    "output_format": {"jpg": Replacement("jpeg")},
    "size": {size: _too_small(size) for size in ("256x256", "512x512")},
    "style": {value: _ignored("style", value, _NO_STYLES) for value in ("vivid", "natural")},
    "input_fidelity": {value: _ignored("input_fidelity", value, _NO_FIDELITY) for value in ("low", "high")},
    "moderation": {"low": _ignored("moderation", "low", _NO_MODERATION)},
}


def _replace(name: str, values: dict[str, Any], is_dalle: bool) -> Iterator[str]:
    """Replaces the value in place; yields the warning about it, if there is any."""
    value = values[name]
    found = _REPLACEMENTS.get(name, {}).get(value) if isinstance(value, str) else None
    if found is None:
        return
    values[name] = found.value
    if found.warning and not (is_dalle and found.is_dalle_word):
        yield found.warning
