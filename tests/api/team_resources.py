"""Creates the resources of a team that paths name."""

from collections.abc import Callable

import httpx

from gateway.api.responses_api.response_ids import make_response_id
from tests.api.error_responses import JOBS_PATH
from tests.api.job_requests import BODY


def create_job(client: httpx.Client) -> str:
    answer = client.post(JOBS_PATH, json=BODY, headers={"prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def upload_file(client: httpx.Client) -> str:
    answer = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("requests.jsonl", b"not JSON")})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def create_batch(client: httpx.Client) -> str:
    body = {"input_file_id": upload_file(client), "endpoint": "/v1/images/generations", "completion_window": "24h"}
    answer = client.post("/v1/batches", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def send_test_webhook(client: httpx.Client) -> str:
    answer = client.post("/v1/webhooks/test", json={"webhook": "https://example.com/webhooks"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


# Creates the resource that a path parameter names. A new kind of resource needs an entry, and an id in UNKNOWN_IDS of
# the access matrix.
RESOURCE_MAKERS: dict[str, Callable[[httpx.Client], str]] = {
    "job_id": create_job,
    "response_id": lambda client: make_response_id(create_job(client)),
    "file_id": upload_file,
    "batch_id": create_batch,
    "delivery_id": send_test_webhook,
}
