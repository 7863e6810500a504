"""Turns msgspec's validation errors into ApiErrors that name the parameter and say what is allowed."""

import re
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct, inspect

from gateway.api.api_errors import ApiError
from gateway.api.parameter_definition import Treatment, get_parameters
from gateway.suggestions import did_you_mean, end_sentence

MAX_NAME_LENGTH = 60
_NAME = re.compile(r"[a-z_]\w*", re.IGNORECASE)
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")
_MISSING_FIELD = re.compile(r"missing required field `([^`]*)`")
_EXPECTED_TYPE = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`| (.+))?")
_BOUND = re.compile(r"(?:of (length) )?(>=|<=|>|<) ([\d.]+)")
# msgspec's rule for the pattern of texts that have at least one visible character.
_NOT_BLANK_RULE = r"matching regex '\\S'"
_TYPE_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_LENGTH_UNITS = {"str": "characters"}
_BOUND_WORDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def to_api_error(error: msgspec.ValidationError, struct_type: type[Struct], parent: str = "") -> ApiError:
    """Converts the validation error. `struct_type`: the struct that the body, or the value of its parameter `parent`,
    should have been converted to."""
    message, _, location = str(error).partition(" - at ")
    # msgspec reports an invalid name within an object at that object.
    path = location.removeprefix("`key` in ").strip("`").removeprefix("$").lstrip(".").replace("[...]", "")
    param = join_param(parent, path)
    if unknown := _UNKNOWN_FIELD.search(message):
        known_names = [] if path else list_known_names(struct_type)
        return make_unknown_param_error(param, unknown[1][:MAX_NAME_LENGTH], known_names)
    if missing := _MISSING_FIELD.search(message):
        name = join_param(param, missing[1])
        return ApiError(400, "missing_required_parameter", f"Missing required parameter: '{name}'.", param=name)
    if refusal := _find_refusal(path, struct_type):
        return ApiError(400, "unsupported_parameter", f"'{param}' is not supported: {refusal}.", param=param)
    rule = (
        _format_allowed_values(path, struct_type)
        if message.startswith("Invalid enum value")
        else _format_type_error(message)
    )
    return ApiError(400, "invalid_value", f"Invalid value for '{param}': {rule}.", param=param or None)


def join_param(parent: str, name: str) -> str:
    """Returns the name of a parameter within another one: `tools[0].size`."""
    return ".".join(filter(None, (parent, name)))


def list_known_names(struct_type: type[Struct]) -> list[str]:
    """Returns the parameters of a body that are not refused. A body without rows of parameters, as admins send it, has
    its fields."""
    rows = get_parameters(struct_type)
    names = [name for name, row in rows.items() if row.treatment is not Treatment.REFUSED]
    return names if rows else list(struct_type.__struct_encode_fields__)


def _find_refusal(path: str, struct_type: type[Struct]) -> str:
    """Returns why the parameter is refused by name, and what to do instead; empty if it is not."""
    name, *inner_names = _NAME.findall(path)[:2] or [""]
    parameter = get_parameters(struct_type).get(name)
    if inner_names and parameter is not None and not parameter.refusal:
        rows = (get_parameters(inner_type) for inner_type in _list_inner_structs(name, struct_type))
        parameter = next((row[inner_names[0]] for row in rows if inner_names[0] in row), None)
    return parameter.refusal if parameter else ""


def _list_inner_structs(name: str, struct_type: type[Struct]) -> list[type[Struct]]:
    """Returns the structs that the values of a field may be, or may contain."""
    return [inner.cls for inner in _list_field_types(name, struct_type) if isinstance(inner, inspect.StructType)]


def _list_field_types(name: str, struct_type: type[Struct]) -> list[inspect.Type]:
    """Returns the types that a field may have or contain; none if there is no such field."""
    fields = inspect.type_info(struct_type).fields  # type: ignore[attr-defined]  # a struct
    return [inner for field in fields if field.name == name for inner in _iterate_types(field.type)]


def _iterate_types(field_type: inspect.Type) -> Iterator[inspect.Type]:
    yield field_type
    match field_type:
        case inspect.UnionType(types=types):
            for member_type in types:
                yield from _iterate_types(member_type)
        case inspect.Metadata(type=inner_type) | inspect.CollectionType(item_type=inner_type):
            yield from _iterate_types(inner_type)


def make_unknown_param_error(parent: str, name: str, known_names: Iterable[str]) -> ApiError:
    param = join_param(parent, name)
    message = f"Unknown parameter: '{param}'{did_you_mean(name, known_names)}"
    return ApiError(400, "unknown_parameter", end_sentence(message), param=param)


def _format_allowed_values(path: str, struct_type: type[Struct]) -> str:
    """Formats the values that the parameter may have. `path`: it may be within another one, such as `scopes[0]`."""
    types: list[inspect.Type] = []
    struct_types = [struct_type]
    for name in _NAME.findall(path):
        types = [inner for owner in struct_types for inner in _list_field_types(name, owner)]
        struct_types = [inner.cls for inner in types if isinstance(inner, inspect.StructType)]
    choices = [choice for inner in types for choice in _list_choices(inner)]
    return f"must be {'one of ' if len(choices) > 1 else ''}{', '.join(choices)}" if choices else "unknown value"


def _list_choices(field_type: inspect.Type) -> list[str]:
    match field_type:
        case inspect.LiteralType(values=values):
            return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
        case inspect.EnumType(cls=cls):
            return [str(member.value) for member in cls]
        case _:
            return []


def _format_type_error(message: str) -> str:
    match = _EXPECTED_TYPE.search(message)
    if match is None:
        return message[:200]
    types = " or ".join(_format_type(name) for name in match[1].split(" | ") if name != "null") or "null"
    if match[2]:
        got = "one with a fraction" if (match[1], match[2]) == ("int", "float") else _format_type(match[2])
        return f"must be {types}, not {got}"
    if match[3] == _NOT_BLANK_RULE:
        return "must not be blank"
    if bound := _BOUND.search(match[3] or ""):
        return _format_bound(bound[2], bound[3], _LENGTH_UNITS.get(match[1], "entries") if bound[1] else None)
    return f"must be {types}"


def _format_bound(sign: str, number: str, unit: str | None) -> str:
    """Formats a bound. `unit`: the unit of a length, e.g. characters."""
    if unit is None:
        return f"must be {_BOUND_WORDS[sign]} {number}"
    return "must not be empty" if (sign, number) == (">=", "1") else f"must have {_BOUND_WORDS[sign]} {number} {unit}"


def _format_type(name: str) -> str:
    return _TYPE_NAMES.get(name, name)
