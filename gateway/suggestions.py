"""Suggestions for misspelled names."""

import difflib
from collections.abc import Iterable

MIN_SIMILARITY = 0.6


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns "; did you mean 'x'?" for a similar name, otherwise the list of known names."""
    known = list(known)
    similar = find_similar(name, known)
    if similar is not None:
        return f"; did you mean '{similar}'?"
    return f"; known: {', '.join(known)}" if known else ""


def end_sentence(text: str) -> str:
    """Ends a text, which may have a suggestion, as a sentence."""
    return text if text.endswith("?") else f"{text.rstrip('.')}."


def find_similar(name: str, known: Iterable[str], min_similarity: float = MIN_SIMILARITY) -> str | None:
    """Returns the most similar known name; None if none has the similarity, from 0 to 1."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=min_similarity)), None)
