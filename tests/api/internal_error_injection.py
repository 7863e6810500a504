"""An internal error of the gateway: a certain prompt raises it."""

from typing import Any

from gateway.api import job_submission
from gateway.api.api_errors import ApiError

FAULT_MESSAGE = "canary-fault at /srv/canary-secret"
FAILING_PROMPT = "break"


def install_internal_error() -> None:
    original = job_submission.submit_job

    async def fail_or_submit(context: Any, request: Any) -> Any:
        if request.params.prompt.startswith(FAILING_PROMPT):
            message = f"{FAULT_MESSAGE} {request.params.prompt}"
            raise RuntimeError(message) from ApiError(418, "canary", message)
        return await original(context, request)

    job_submission.submit_job = fail_or_submit
