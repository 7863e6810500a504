"""Reads other spellings of parameter values: other case and signs, and the texts of forms.

A value in no known spelling is returned unchanged, for the validation that follows.
"""

import re
from typing import Any

# Longer values are rejected by the validation, so their spelling is not fixed.
MAX_WORD_LENGTH = 64
_TIMES_SIGN = re.compile(r"\s*[x×*]\s*")


def read_word(value: Any) -> Any:
    return value.strip().lower() if _is_short_text(value) else value


def read_format(value: Any) -> Any:
    word = read_word(value)
    return "jpeg" if word == "jpg" else word


def read_size(value: Any) -> Any:
    return _TIMES_SIGN.sub("x", read_word(value)) if _is_short_text(value) else value


def read_integer(value: Any) -> Any:
    if _is_short_text(value) and re.fullmatch(r"\s*-?[0-9]{1,9}\s*", value):
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_number(value: Any) -> Any:
    is_number = _is_short_text(value) and re.fullmatch(r"\s*-?[0-9]{1,9}(\.[0-9]{1,9})?\s*", value)
    return float(value) if is_number else value


def read_boolean(value: Any) -> Any:
    word = read_word(value)
    return word == "true" if word in ("true", "false") else value


def _is_short_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_WORD_LENGTH
