"""The findings of checks that span options or files: a message, and the path of its option within the file."""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from gateway.suggestions import did_you_mean

OptionPath = tuple[str | int, ...]


class Finding(NamedTuple):
    message: str
    path: OptionPath


def check_name(kind: str, name: str, known: Collection[str], *path: str | int) -> Iterator[Finding]:
    """Yields a finding if the name is unknown."""
    if name not in known:
        yield Finding(f"Unknown {kind} '{name}'{did_you_mean(name, known)}", path)
