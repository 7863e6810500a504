"""Requests that run while their API key is revoked end within seconds. Their jobs continue."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH
from tests.harness.gateway_runner import RunningGateway, make_client
from tests.harness.key_admin import KEYS_PATH, create_key, open_admin_client

# Without the revocation, requests would get another response then.
WAIT_SECONDS = 60


@pytest.fixture
def key(gateway: RunningGateway) -> Iterator[dict[str, Any]]:
    """A key of the team whose sellers hold all orders."""
    gateway.sandbox.hold_orders()
    yield create_key(gateway)
    gateway.sandbox.release_orders()
    gateway.wait_until_idle()


def revoke(gateway: RunningGateway, key: dict[str, Any]) -> None:
    with open_admin_client(gateway.url) as admin:
        assert admin.post(f"{KEYS_PATH}/{key['id']}/revoke").status_code == 200


def create_held_job(client: httpx.Client) -> str:
    return str(client.post(JOBS_PATH, json={"prompt": "a lighthouse"}).json()["id"])


def read_until_broken(lines: Iterator[str]) -> None:
    """Reads until the connection breaks. Heartbeats would keep the stream open."""
    ends_before = time.monotonic() + WAIT_SECONDS
    for line in lines:
        assert time.monotonic() < ends_before, line


def test_stream_of_events_ends(gateway: RunningGateway, key: dict[str, Any]) -> None:
    with make_client(gateway.url, key["key"]) as client:
        path = f"{JOBS_PATH}/{create_held_job(client)}/events"
        with client.stream("GET", path, timeout=WAIT_SECONDS) as stream:
            lines = stream.iter_lines()
            assert next(lines)
            revoke(gateway, key)
            with pytest.raises(httpx.RemoteProtocolError):
                read_until_broken(lines)
        assert client.get(path).json()["error"]["code"] == "api_key_revoked"


def test_wait_for_a_job_ends_and_the_job_continues(gateway: RunningGateway, key: dict[str, Any]) -> None:
    with make_client(gateway.url, key["key"]) as client, ThreadPoolExecutor() as pool:
        job_id = create_held_job(client)
        path = f"{JOBS_PATH}/{job_id}"
        waiting = pool.submit(client.get, path, params={"wait": WAIT_SECONDS})
        ordering = pool.submit(client.post, IMAGES_PATH, json={"prompt": "another lighthouse"}, timeout=WAIT_SECONDS)
        wait_until_both_run(gateway, waiting, ordering)
        revoke(gateway, key)
        for running in (waiting, ordering):
            response = running.result()
            assert (response.status_code, response.json()["error"]["code"]) == (401, "api_key_revoked")
            assert response.headers["x-should-retry"] == "false"
        assert "You are charged only for delivered images." in ordering.result().json()["error"]["message"]
    gateway.sandbox.release_orders()
    gateway.wait_until_idle()
    with make_client(gateway.url, create_key(gateway)["key"]) as colleague:
        completed = colleague.get(JOBS_PATH, params={"key": key["id"], "status": "completed"}).json()["data"]
    assert len(completed) == 2
    gateway.expect_no_problem()


def wait_until_both_run(gateway: RunningGateway, *running: "Future[httpx.Response]") -> None:
    """Waits until both jobs are in flight, so that both requests have been authenticated."""
    while gateway.get("/readyz").json()["jobs"] < len(running):
        assert not any(future.done() for future in running)
        threading.Event().wait(0.01)


def test_other_keys_go_on(gateway: RunningGateway, key: dict[str, Any]) -> None:
    with make_client(gateway.url, key["key"]) as client, ThreadPoolExecutor() as pool:
        job_id = create_held_job(client)
        with make_client(gateway.url, create_key(gateway)["key"]) as colleague:
            waiting = pool.submit(colleague.get, f"{JOBS_PATH}/{job_id}", params={"wait": WAIT_SECONDS})
            revoke(gateway, key)
            gateway.sandbox.release_orders()
            assert waiting.result().json()["status"] == "completed"
