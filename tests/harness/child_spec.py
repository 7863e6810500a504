"""Changes that a test makes in the process of its gateway."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gateway.timeouts_and_intervals import Timing
from tests.harness.timings import TEST_TIMINGS


class Hook(Struct, frozen=True):
    """A function, as "module:name", that is called with these arguments before the gateway starts."""

    function: str
    arguments: Mapping[str, Any] = {}


class ChildSpec(Struct, frozen=True):
    """`timing`: the times of the gateway. Only its metrics differ from the product by default."""

    timing: Timing = TEST_TIMINGS
    hooks: tuple[Hook, ...] = ()


NO_CHANGES = ChildSpec()
