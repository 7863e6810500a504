"""What is wrong with a field of a body, in words that say what to do."""

import re

import msgspec
from msgspec import inspect

from gateway.api.errors import ApiError
from gateway.config.checking import did_you_mean

LONGEST_NAME = 60
_UNKNOWN = re.compile(r"unknown field `([^`]*)`")
_MISSING = re.compile(r"missing required field `([^`]*)`")
_EXPECTED = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`| (.+))?")
_BOUND = re.compile(r"(?:of (length) )?(>=|<=|>|<) ([\d.]+)")
_TYPES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
_COUNTED = {"str": "characters"}
_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def refusal(error: msgspec.ValidationError, wanted: type) -> ApiError:
    """`wanted`: the struct that the body was to become."""
    what, _, where = str(error).partition(" - at ")
    # What is wrong may be a name within an object: then it is that object's fault.
    path = where.removeprefix("`key` in ").strip("`").removeprefix("$").lstrip(".").replace("[...]", "")
    if unknown := _UNKNOWN.search(what):
        return _unknown(path, unknown[1][:LONGEST_NAME], wanted)
    if missing := _MISSING.search(what):
        name = f"{path}.{missing[1]}".lstrip(".")
        return ApiError(400, "missing_required_parameter", f"Missing required parameter: '{name}'.", param=name)
    words = _enumerated(path, wanted) if what.startswith("Invalid enum value") else _expected(what)
    return ApiError(400, "invalid_value", f"Invalid value for '{path}': {words}.", param=path or None)


def _unknown(path: str, name: str, wanted: type) -> ApiError:
    known = [] if path else list(wanted.__struct_fields__)  # type: ignore[attr-defined]  # a struct, by design
    full = f"{path}.{name}".lstrip(".")
    message = f"Unknown parameter: '{full}'{did_you_mean(name, known)}"
    return ApiError(400, "unknown_parameter", message if message.endswith("?") else f"{message}.", param=full)


def _enumerated(path: str, wanted: type) -> str:
    kinds = {field.name: field.type for field in inspect.type_info(wanted).fields}  # type: ignore[attr-defined]
    found = _options(kinds[path]) if path in kinds else []
    return f"must be {'one of ' if len(found) > 1 else ''}{', '.join(found)}" if found else "it is none of those known"


def _options(kind: inspect.Type) -> list[str]:
    match kind:
        case inspect.LiteralType(values=values):
            return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
        case inspect.EnumType(cls=cls):
            return [str(member.value) for member in cls]
        case inspect.UnionType(types=types):
            return [option for one in types for option in _options(one)]
        case _:
            return []


def _expected(what: str) -> str:
    found = _EXPECTED.search(what)
    if found is None:
        return what[:200]
    types = " or ".join(_type(one) for one in found[1].split(" | ") if one != "null") or "null"
    if found[2]:
        got = "one with a fraction" if (found[1], found[2]) == ("int", "float") else _type(found[2])
        return f"must be {types}, not {got}"
    if bound := _BOUND.search(found[3] or ""):
        return _bounded(bound[2], bound[3], _COUNTED.get(found[1], "entries") if bound[1] else None)
    return f"must be {types}"


def _bounded(sign: str, number: str, counted: str | None) -> str:
    """`counted`: what a length is a number of."""
    if counted is None:
        return f"must be {_BOUNDS[sign]} {number}"
    return "must not be empty" if (sign, number) == (">=", "1") else f"must have {_BOUNDS[sign]} {number} {counted}"


def _type(name: str) -> str:
    return _TYPES.get(name, name)
