"""Suggestions for misspelled names."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for a similar name, otherwise the list of known names."""
    known = list(known)
    similar = difflib.get_close_matches(name, known, n=1)
    if similar:
        return f"; did you mean '{similar[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""
