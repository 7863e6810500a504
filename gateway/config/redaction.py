"""Redacts text that looks like a secret, and replaces control characters."""

import re

_WORD = re.compile(r"[^\s'\",;\[\]{}()]+")
# A long run of letters and digits. Names, dates and sizes have separators.
_RANDOM_RUN = re.compile(r"(?=[A-Za-z_]*\d)(?=[\d_]*[A-Za-z])[A-Za-z0-9_]{20,}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
# Base64 may contain slashes, as model names do; model names do not mix both cases with digits.
_BASE64 = re.compile(r"(?=\S*\d)(?=\S*[a-z])(?=\S*[A-Z])[A-Za-z0-9+/]{32,}", re.ASCII)
# Prefixes of API keys.
_KEY_PREFIX = re.compile(r"(?<![A-Za-z0-9])(?:sk[-_]|rfk?_)\S{4,}", re.ASCII)
# URLs and paths may contain long identifiers that are not secret.
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d+)?(?:/[^\s@]*)?", re.ASCII)
_PATH = re.compile(r"(?:file:)?(?:/[\w.@+-]+)+/?", re.ASCII)
_ENV_REFERENCE = re.compile(r"env:[A-Z_][A-Z0-9_]*", re.ASCII)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
REDACTED = "(hidden)"


def looks_like_secret(text: str) -> bool:
    return any(_is_secret(word) for word in _WORD.findall(text))


def redact(text: str) -> str:
    """Returns the text on one line, with everything that looks like a secret redacted."""
    redacted = _WORD.sub(lambda word: REDACTED if _is_secret(word[0]) else word[0], text)
    return replace_control_chars(redacted)


def replace_control_chars(text: str) -> str:
    return _UNPRINTABLE.sub("?", text)


def _is_secret(word: str) -> bool:
    if _URL.fullmatch(word) or _PATH.fullmatch(word):
        return False
    # The words of a variable's name are short; a pasted key has a long one.
    parts = word[4:].split("_") if _ENV_REFERENCE.fullmatch(word) else [word]
    return any(pattern.search(part) for part in parts for pattern in (_KEY_PREFIX, _RANDOM_RUN, _UUID, _BASE64))
