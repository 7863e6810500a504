"""Creates the resources that paths name: those of a team, and those of admins."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def create_api_key(admin: httpx.Client) -> str:
    return _create(admin, "/v1/admin/keys", {"team": "design"})


def raise_budget(admin: httpx.Client) -> str:
    body = {"team": "marketing", "window": "day", "amount": "60", "duration": "1h", "reason": "a test"}
    return _create(admin, "/v1/admin/budgets", body)


def add_webhook_target(admin: httpx.Client) -> str:
    """Adds a target to another team than the documented example: generated requests add targets to that one, and a team
    may have 20."""
    return _create(admin, "/v1/admin/webhooks", {"team": "marketing", "url": "https://example.com/webhooks"})


def _create(admin: httpx.Client, path: str, body: dict[str, str]) -> str:
    answer = admin.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


ADMIN_RESOURCE_MAKERS = {"key_id": create_api_key, "override_id": raise_budget, "target_id": add_webhook_target}
# Of these there may be few.
_REMOVED_FROM = {"override_id": "/v1/admin/budgets", "target_id": "/v1/admin/webhooks"}


@contextmanager
def make_resource(name: str, team: httpx.Client, admin: httpx.Client) -> Iterator[str]:
    """Creates the resource that a path parameter names, for the block."""
    resource = RESOURCE_MAKERS[name](team) if name in RESOURCE_MAKERS else ADMIN_RESOURCE_MAKERS[name](admin)
    yield resource
    if name in _REMOVED_FROM:
        answer = admin.delete(f"{_REMOVED_FROM[name]}/{resource}")
        assert answer.status_code in (200, 404), answer.text
