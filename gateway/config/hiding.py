"""What looks like a secret is shown to nobody, wherever in the files it stands; nor is what would upset a terminal."""

import re

_WORD = re.compile(r"[^\s'\",;\[\]{}()]+")
# Random letters and digits in one long run: a name, a date or a size has separators long before that.
_RUN = re.compile(r"(?=[A-Za-z_]*\d)(?=[\d_]*[A-Za-z])[A-Za-z0-9_]{20,}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
HIDDEN = "(hidden)"


def looks_secret(text: str) -> bool:
    return any(_is_secret(word) for word in _WORD.findall(text))


def shown(text: str) -> str:
    """The text as it may be told: without what looks like a secret, and in one line."""
    told = _WORD.sub(lambda word: HIDDEN if _is_secret(word[0]) else word[0], text)
    return _UNPRINTABLE.sub("?", told)


def _is_secret(word: str) -> bool:
    # Addresses and paths hold long identifiers of their own, and env:NAME is what should stand here.
    if "/" in word or word.startswith("env:"):
        return False
    return bool(_RUN.search(word) or _UUID.search(word))
