"""A mutant: a deliberate bug of the engine, as replacements of its functions."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

# 30 seconds of one core.
MAX_RUNS = 1000


class AttributePatch(Struct, frozen=True):
    """`make` gets the original attribute of `owner`, and returns the one that takes its place."""

    owner: Any
    name: str
    make: Callable[[Any], Any]


class Mutant(Struct, frozen=True):
    """One bug."""

    name: str
    patches: tuple[AttributePatch, ...]
    max_runs: int = MAX_RUNS
