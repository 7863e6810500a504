"""Runs the gateway with shorter timeouts, smaller limits and a fault in job submission.

EDGE_CONSTANTS='{"gateway.api.body_receiver.STALL_TIMEOUT_SECONDS": 0.5}' \\
    python -m tests.api.gateway_with_fault serve --sandbox ...
"""

import json
import os
from importlib import import_module
from typing import Any

from gateway.api import job_submission
from gateway.api.api_errors import ApiError
from gateway.cli import main

FAULT_MESSAGE = "canary-fault at /srv/canary-secret"
FAILING_PROMPT = "break"


def override_constants() -> None:
    for name, value in json.loads(os.environ["EDGE_CONSTANTS"]).items():
        module, _, constant = name.rpartition(".")
        before = getattr(import_module(module), constant)
        setattr(import_module(module), constant, type(before)(value))


def install_fault() -> None:
    original = job_submission.submit_job

    async def fail_or_submit(tools: Any, request: Any) -> Any:
        if request.params.prompt == FAILING_PROMPT:
            raise RuntimeError(FAULT_MESSAGE) from ApiError(418, "canary", FAULT_MESSAGE)
        return await original(tools, request)

    job_submission.submit_job = fail_or_submit


if __name__ == "__main__":
    override_constants()
    install_fault()
    main()
