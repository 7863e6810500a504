"""Checks of the fields of an image request. A check returns the value, or raises an error that names the field."""

from collections.abc import Callable, Mapping
from typing import Any

from sandbox.openai.errors import OpenaiError, invalid_param_error

FieldCheck = Callable[[str, Any], Any]

MAX_PROMPT_CHARACTERS = 32_000


def make_text_check(max_characters: int | None = None) -> FieldCheck:
    def check(param: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _type_error(param, value, "a string")
        if max_characters is not None and len(value) > max_characters:
            problem = f"Expected at most {max_characters} characters, but got {len(value)}."
            message = f"Invalid '{param}': string too long. {problem}"
            raise invalid_param_error(param, message, "string_above_max_length")
        return value

    return check


def make_choice_check(*choices: str) -> FieldCheck:
    def check(param: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _type_error(param, value, "a string")
        if value not in choices:
            supported = ", ".join(f"'{choice}'" for choice in choices)
            raise invalid_param_error(param, f"Invalid value: '{value}'. Supported values are: {supported}.")
        return value

    return check


def make_integer_check(minimum: int, maximum: int) -> FieldCheck:
    def check(param: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _type_error(param, value, "an integer")
        if value < minimum:
            raise _range_error(param, value, f">= {minimum}", "integer_below_min_value")
        if value > maximum:
            raise _range_error(param, value, f"<= {maximum}", "integer_above_max_value")
        return value

    return check


def check_boolean(param: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _type_error(param, value, "a boolean")
    return value


def make_unsupported_check(reason: str) -> FieldCheck:
    """Makes a check for a field of the SDK that the simulated models do not support; null is accepted."""

    def check(param: str, _: Any) -> Any:
        raise invalid_param_error(param, f"'{param}' is {reason}.", "unsupported_parameter")

    return check


def reject_retired(param: str, _: Any) -> Any:
    raise _unknown_param_error(param)


COMMON_CHECKS: Mapping[str, FieldCheck] = {
    "prompt": make_text_check(MAX_PROMPT_CHARACTERS),
    "model": make_text_check(),
    "n": make_integer_check(1, 10),
    "size": make_text_check(),
    # The qualities depend on the model.
    "quality": make_text_check(),
    "background": make_choice_check("auto", "opaque", "transparent"),
    "output_format": make_choice_check("png", "webp", "jpeg"),
    "output_compression": make_integer_check(0, 100),
    "stream": check_boolean,
    "partial_images": make_integer_check(0, 3),
    "complexity": make_choice_check("low", "medium", "high"),
    "user": make_text_check(),
    "safety_identifier": make_text_check(),
    "response_format": reject_retired,
    "style": reject_retired,
    "frame_count": make_unsupported_check("only supported with output_format=gif"),
    "frame_duration_ms": make_unsupported_check("only supported with output_format=gif"),
    "svg": make_unsupported_check("only supported with output_format=svg"),
}
MODERATION_CHECKS: Mapping[str, FieldCheck] = {"moderation": make_choice_check("auto", "low")}
GENERATION_CHECKS = {**COMMON_CHECKS, **MODERATION_CHECKS}
EDIT_FORM_CHECKS = {
    **COMMON_CHECKS,
    "input_fidelity": make_choice_check("high", "low"),
    "markup": make_unsupported_check("not supported by this model"),
}
# OpenAI's published file gives `moderation` to the JSON body only; the SDK sends edits as forms and has no such field.
EDIT_JSON_CHECKS = {**EDIT_FORM_CHECKS, **MODERATION_CHECKS}

INTEGER_FIELDS = {"n", "output_compression", "partial_images", "frame_count", "frame_duration_ms"}
BOOLEAN_FIELDS = {"stream"}


def check_fields(fields: Mapping[str, Any], checks: Mapping[str, FieldCheck]) -> dict[str, Any]:
    """Checks all fields and returns those that are not null. Unknown names are errors, even with null."""
    for name in fields:
        if name not in checks:
            raise _unknown_param_error(name)
    present = {name: value for name, value in fields.items() if value is not None}
    return {name: checks[name](name, value) for name, value in present.items()}


def parse_form_value(name: str, value: str) -> Any:
    """Converts a form's string to the type of the field; the check rejects what cannot be converted."""
    if name in INTEGER_FIELDS:
        try:
            return int(value)
        except ValueError:
            return value
    if name in BOOLEAN_FIELDS:
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def _unknown_param_error(param: str) -> OpenaiError:
    return invalid_param_error(param, f"Unknown parameter: '{param}'.", "unknown_parameter")


def _type_error(param: str, value: Any, expected: str) -> OpenaiError:
    type_name = type(value).__name__
    return invalid_param_error(
        param, f"Invalid type for '{param}': expected {expected}, but got {type_name}.", "invalid_type"
    )


def _range_error(param: str, value: int, expected: str, code: str) -> OpenaiError:
    return invalid_param_error(param, f"Invalid '{param}': expected a value {expected}, but got {value}.", code)
