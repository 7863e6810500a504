"""An internal error of the gateway: one prompt raises it."""

from typing import Any

from gateway.api import job_submission
from gateway.api.api_errors import ApiError

FAULT_MESSAGE = "canary-fault at /srv/canary-secret"
FAILING_PROMPT = "break"


def install_internal_error() -> None:
    original = job_submission.submit_job

    async def fail_or_submit(context: Any, request: Any) -> Any:
        if request.params.prompt == FAILING_PROMPT:
            raise RuntimeError(FAULT_MESSAGE) from ApiError(418, "canary", FAULT_MESSAGE)
        return await original(context, request)

    job_submission.submit_job = fail_or_submit
