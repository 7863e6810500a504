"""Changes that a test makes in the process of its gateway."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.timeouts_and_intervals import Timing


class Hook(Struct, frozen=True):
    """A function, as "module:name", that is called with these arguments before the gateway starts."""

    function: str
    arguments: Mapping[str, Any] = {}


class ChildSpec(Struct, frozen=True):
    """`timing`: the times of the gateway."""

    timing: Timing = Timing()
    hooks: tuple[Hook, ...] = ()


NO_CHANGES = ChildSpec()
