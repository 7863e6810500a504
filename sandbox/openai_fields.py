"""The fields of an image request, one check each. A check gives the value back or refuses it by name."""

from collections.abc import Callable, Mapping
from typing import Any

from sandbox.openai_errors import RefusedError, invalid

Check = Callable[[str, Any], Any]

PROMPT_LIMIT = 32_000


def text(limit: int | None = None) -> Check:
    def check(param: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_type(param, value, "a string")
        if limit is not None and len(value) > limit:
            message = f"Invalid '{param}': string too long. Expected at most {limit} characters, but got {len(value)}."
            raise invalid(param, message, "string_above_max_length")
        return value

    return check


def one_of(*words: str) -> Check:
    def check(param: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_type(param, value, "a string")
        if value not in words:
            supported = ", ".join(f"'{word}'" for word in words)
            raise invalid(param, f"Invalid value: '{value}'. Supported values are: {supported}.")
        return value

    return check


def whole(low: int, high: int) -> Check:
    def check(param: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(param, value, "an integer")
        if value < low:
            raise _beyond(param, value, f">= {low}", "integer_below_min_value")
        if value > high:
            raise _beyond(param, value, f"<= {high}", "integer_above_max_value")
        return value

    return check


def flag(param: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(param, value, "a boolean")
    return value


def never(reason: str) -> Check:
    """A field of the SDK's that none of the models here takes; as null it says nothing and passes."""

    def check(param: str, _: Any) -> Any:
        raise invalid(param, f"'{param}' is {reason}.", "unsupported_parameter")

    return check


def retired(param: str, _: Any) -> Any:
    raise _unknown(param)


COMMON: Mapping[str, Check] = {
    "prompt": text(PROMPT_LIMIT),
    "model": text(),
    "n": whole(1, 10),
    "size": text(),
    "quality": one_of("auto", "low", "medium", "high"),
    "background": one_of("auto", "opaque", "transparent"),
    "output_format": one_of("png", "webp", "jpeg"),
    "output_compression": whole(0, 100),
    "stream": flag,
    "partial_images": whole(0, 3),
    "complexity": one_of("low", "medium", "high"),
    "user": text(),
    "safety_identifier": text(),
    "response_format": retired,
    "style": retired,
    "frame_count": never("only supported with output_format=gif"),
    "frame_duration_ms": never("only supported with output_format=gif"),
    "svg": never("only supported with output_format=svg"),
}
MODERATION: Mapping[str, Check] = {"moderation": one_of("auto", "low")}
GENERATION = {**COMMON, **MODERATION}
EDIT_FORM = {**COMMON, "input_fidelity": one_of("high", "low"), "markup": never("not supported by this model")}
# OpenAI's published file gives `moderation` to the JSON body only; the SDK sends edits as forms and has no such field.
EDIT_JSON = {**EDIT_FORM, **MODERATION}

NUMBERS = {"n", "output_compression", "partial_images", "frame_count", "frame_duration_ms"}
FLAGS = {"stream"}


def checked(fields: Mapping[str, Any], checks: Mapping[str, Check]) -> dict[str, Any]:
    """The fields that say something. A null is as good as nothing, an unknown name never is."""
    for name in fields:
        if name not in checks:
            raise _unknown(name)
    said = {name: value for name, value in fields.items() if value is not None}
    return {name: checks[name](name, value) for name, value in said.items()}


def from_form(name: str, value: str) -> Any:
    """A form has only strings: numbers and flags are read from them, anything else stays for the check to refuse."""
    if name in NUMBERS:
        try:
            return int(value)
        except ValueError:
            return value
    if name in FLAGS:
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def _unknown(param: str) -> RefusedError:
    return invalid(param, f"Unknown parameter: '{param}'.", "unknown_parameter")


def _wrong_type(param: str, value: Any, expected: str) -> RefusedError:
    kind = type(value).__name__
    return invalid(param, f"Invalid type for '{param}': expected {expected}, but got {kind}.", "invalid_type")


def _beyond(param: str, value: int, expected: str, code: str) -> RefusedError:
    return invalid(param, f"Invalid '{param}': expected a value {expected}, but got {value}.", code)
