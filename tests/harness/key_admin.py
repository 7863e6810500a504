"""Creates API keys, and targets of webhooks, through the admin API of a gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway, make_client

KEYS_PATH = "/v1/admin/keys"
# A route that requires the scope `read`. With it, the response is a 404.
READ_PATH = "/v1/jobs/unknown"


@contextmanager
def open_admin_client(url: str) -> Iterator[httpx.Client]:
    with make_client(url, ADMIN_KEY) as client:
        yield client


def create_key(gateway: RunningGateway, team: str | None = "design", **options: Any) -> dict[str, Any]:
    """Creates a key. Returns it with its secret, as `key`."""
    with open_admin_client(gateway.url) as admin:
        answer = admin.post(KEYS_PATH, json={"team": team, **options})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def create_webhook_target(gateway: RunningGateway, team: str = "design") -> str:
    """Creates a target with a name that no other has, to which no webhook of a job is sent. Returns its id."""
    with open_admin_client(gateway.url) as admin:
        name = f"target-{uuid4().hex[:12]}"
        body = {"team": team, "name": name, "url": "https://example.com/", "events": ["budget.threshold_reached"]}
        answer = admin.post("/v1/admin/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def is_accepted(client: httpx.Client) -> bool:
    """Returns whether the client's key is accepted for reading."""
    return client.get(READ_PATH).status_code == 404
