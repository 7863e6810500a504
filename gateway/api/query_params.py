"""Reads the query parameters of a request strictly: an unknown or repeated one is an error, since it would otherwise be
ignored silently."""

from collections.abc import Collection

from gateway.api.api_context import HttpRequest
from gateway.api.api_errors import ApiError
from gateway.api.request_body_reader import make_duplicate_error
from gateway.suggestions import did_you_mean, end_sentence

DEFAULT_LIMIT = 20
# Azure's clients send it with every request.
_AZURE_PREFIX, _AZURE_VERSION = "/openai/", "api-version"
MAX_NAME_LENGTH, MAX_VALUE_LENGTH = 60, 500


def read_query_params(
    request: HttpRequest, *known_names: str, repeatable: Collection[str] = ()
) -> dict[str, list[str]]:
    """Returns the values of each known parameter, in their order; none for a parameter that is absent or empty.

    `repeatable`: the names of those that may have several values.
    """
    values: dict[str, list[str]] = {name: [] for name in known_names}
    seen_names: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name == _AZURE_VERSION and request.scope["path"].startswith(_AZURE_PREFIX):
            continue
        if name not in values:
            shown_name = name[:MAX_NAME_LENGTH]
            message = f"Unknown parameter: '{shown_name}'{did_you_mean(shown_name, known_names)}"
            raise ApiError(400, "unknown_parameter", end_sentence(message), param=shown_name)
        if name in seen_names and name not in repeatable:
            raise make_duplicate_error(name)
        seen_names.add(name)
        if len(value) > MAX_VALUE_LENGTH:
            message = f"Invalid value for '{name}': must have at most {MAX_VALUE_LENGTH} characters."
            raise ApiError(400, "invalid_value", message, param=name)
        if value:
            values[name].append(value)
    return values


def parse_limit(texts: list[str], max_limit: int, default_limit: int = DEFAULT_LIMIT) -> int:
    """Parses the number of entries of a page."""
    text = texts[-1] if texts else str(default_limit)
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= max_limit):
        raise ApiError(400, "invalid_value", f"Invalid value for 'limit': must be 1 to {max_limit}.", param="limit")
    return int(text)
