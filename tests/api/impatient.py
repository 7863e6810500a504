"""The gateway with less patience and less room, so that tests need not wait for what ends by itself; and with a fault.

EDGE_CONSTANTS='{"gateway.api.receiving.STALL_SECONDS": 0.5}' python -m tests.api.impatient serve --sandbox ...
"""

import json
import os
from importlib import import_module
from typing import Any

from gateway.api import counter
from gateway.api.errors import ApiError
from gateway.cli import main

FAULT = "canary-fault at /srv/canary-secret"
PROMPT_THAT_BREAKS = "break"


def shorten() -> None:
    for name, value in json.loads(os.environ["EDGE_CONSTANTS"]).items():
        module, _, constant = name.rpartition(".")
        before = getattr(import_module(module), constant)
        setattr(import_module(module), constant, type(before)(value))


def break_sometimes() -> None:
    takes = counter.take

    async def take(tools: Any, request: Any) -> Any:
        if request.wishes.prompt == PROMPT_THAT_BREAKS:
            raise RuntimeError(FAULT) from ApiError(418, "canary", FAULT)
        return await takes(tools, request)

    counter.take = take


if __name__ == "__main__":
    shorten()
    break_sometimes()
    main()
