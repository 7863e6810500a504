"""Two more adapters, which the sandbox does not simulate."""

from typing import cast

from msgspec.structs import replace

import providers
from providers.adapter import Adapter
from tests.harness.child_spec import Hook

ADD_ADAPTERS = Hook("tests.unit.commands.unsimulated_adapters:add_adapters")
COPIED_ADAPTERS = {"fifth": "runflow_runs", "sixth": "runapi"}


def add_adapters() -> None:
    """Runs in the gateway's process."""
    adapters = cast("dict[str, Adapter]", providers.ADAPTERS)
    adapters.update({name: replace(adapters[copied], name=name) for name, copied in COPIED_ADAPTERS.items()})
