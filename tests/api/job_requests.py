"""Creates jobs through the API, for tests of other routes."""

from typing import Any

from tests.api.error_responses import JOBS_PATH
from tests.harness.gateway_runner import RunningGateway

BODY = {"prompt": "a lighthouse"}


def create_finished_job(gateway: RunningGateway, **fields: Any) -> dict[str, Any]:
    answer = gateway.http.post(JOBS_PATH, json=BODY | fields, headers={"prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job
