"""Turns the fields of a form into the same values as those of a JSON body.

Clients write lists and objects with brackets: `provider[only][]=a` (repeated), `provider[only][0]=a`, `metadata[a]=b`.
Others repeat the name of a list without brackets: `labels=a` (LiteLLM; Vercel's AI SDK for a list of one), or write an
object as JSON.
"""

import re
from collections.abc import Iterable
from typing import Any

from gateway.api.api_errors import ApiError
from gateway.api.request_body_reader import decode_json_object, make_duplicate_error
from gateway.api.validation_errors import MAX_NAME_LENGTH

MAX_NAME_DEPTH = 4
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_KEY = re.compile(r"\[([^\[\]]*)\]")
# Lists, which may be repeated without brackets.
LIST_FIELDS = ("image", "images", "labels", "provider[only]", "provider[ignore]")
# Objects, which may be written as JSON. Its length is limited, because it is decoded on the event loop.
OBJECT_FIELDS = ("metadata", "provider")
MAX_JSON_LENGTH = 65_536


def parse_form_fields(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Returns the fields by name. An empty text equals absent, since a form has no null.

    Raises ApiError if a field is sent twice without brackets, or if its brackets contradict those of another field.
    """
    fields: dict[str, Any] = {}
    for name, text in pairs:
        if text:
            _add_value(fields, f"{name}[]" if name in LIST_FIELDS else name, text)
    return {name: _convert_value(name, value) for name, value in fields.items()}


def _add_value(fields: dict[str, Any], name: str, text: str) -> None:
    *outer_keys, last_key = _split_name(name)
    target = fields
    for key in outer_keys:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise make_duplicate_error(name)
    # An empty pair of brackets appends.
    key = last_key or f"{len(target)}"
    if key in target:
        raise make_duplicate_error(name)
    target[key] = text


def _split_name(name: str) -> list[str]:
    """Splits `provider[only][]` into `provider`, `only` and the empty key."""
    match = _NAME.fullmatch(name)
    keys = [match[1], *_KEY.findall(match[2])] if match else []
    if not 0 < len(keys) <= MAX_NAME_DEPTH or "" in keys[:-1]:
        short_name = name[:MAX_NAME_LENGTH]
        message = f"Invalid form field '{short_name}': write names like 'provider[only][]'."
        raise ApiError(400, "invalid_value", message, param=short_name)
    return keys


def _convert_value(name: str, value: Any) -> Any:
    is_json = name in OBJECT_FIELDS and isinstance(value, str)
    return _parse_object(name, value) if is_json else _convert_lists(value)


def _parse_object(name: str, text: str) -> dict[str, Any]:
    """Parses JSON. Raises ApiError for all other texts, such as the `[object Object]` of some clients."""
    message = f"Invalid value for '{name}': write an object as JSON, or with names like '{name}[…]'."
    if len(text) > MAX_JSON_LENGTH:
        raise ApiError(400, "invalid_value", message, param=name)
    try:
        return decode_json_object(text.encode())
    except ApiError:
        raise ApiError(400, "invalid_value", message, param=name) from None


def _convert_lists(value: Any) -> Any:
    """Converts objects whose keys are 0, 1, 2, …, in any order, to lists."""
    if not isinstance(value, dict):
        return value
    values = {key: _convert_lists(inner) for key, inner in value.items()}
    indices = [str(index) for index in range(len(values))]
    return [values[index] for index in indices] if values.keys() == set(indices) else values
