"""Changes that a test makes in the process of its gateway."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct


class Hook(Struct, frozen=True):
    """A function, as "module:name", that is called with these arguments before the gateway starts."""

    function: str
    arguments: Mapping[str, Any] = {}


class ChildSpec(Struct, frozen=True):
    """`overrides`: constants by dotted name, see `constant_overrides`."""

    overrides: Mapping[str, Any] = {}
    hooks: tuple[Hook, ...] = ()


NO_CHANGES = ChildSpec()
