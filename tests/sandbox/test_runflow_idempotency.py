"""Idempotency keys at the simulated Runflow: a repeat gets the same response and is not charged again."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.sandbox.runflow_client import MODEL_PATH, RunflowClient, build_order


def test_replay_returns_the_same_bytes(runflow_client: RunflowClient) -> None:
    first = runflow_client.create_run(**{"idempotency-key": "k"})
    runflow_client.wait_until_finished(first.json()["id"])
    again = runflow_client.create_run(**{"idempotency-key": "k"})
    assert (again.status_code, again.content) == (201, first.content)
    assert len(runflow_client.sandbox.list_charges()) == 1


def test_key_with_another_body_is_a_conflict(runflow_client: RunflowClient) -> None:
    runflow_client.create_run(**{"idempotency-key": "k"})
    other = runflow_client.create_run(build_order("another"), **{"idempotency-key": "k"})
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")


def test_each_request_without_a_key_creates_a_run(runflow_client: RunflowClient) -> None:
    ids = {runflow_client.create_run().json()["id"] for _ in range(2)}
    assert len(ids) == 2


def test_rejected_request_does_not_use_its_key(runflow_client: RunflowClient) -> None:
    assert runflow_client.create_run(build_order(quality="bad"), **{"idempotency-key": "k"}).status_code == 422
    assert runflow_client.create_run(**{"idempotency-key": "k"}).status_code == 201


def test_concurrent_duplicates_create_one_run(runflow_client: RunflowClient) -> None:
    def create_run(_: int) -> str:
        with httpx.Client(base_url=runflow_client.sandbox.url, trust_env=False) as client:
            headers = runflow_client.headers | {"idempotency-key": "k"}
            run_id: str = client.post(f"/runflow{MODEL_PATH}/runs", json=build_order(), headers=headers).json()["id"]
            return run_id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(create_run, range(16)))
    assert len(ids) == 1
    runflow_client.wait_until_finished(ids.pop())
    assert len(runflow_client.sandbox.list_charges()) == 1


def test_ignored_idempotency_key_creates_another_run(sandbox: RunningSandbox, runflow_client: RunflowClient) -> None:
    sandbox.inject_fault("ignore_idempotency_key", vendor="runflow", times=1)
    ids = [runflow_client.create_run(**{"idempotency-key": "k"}).json()["id"] for _ in range(3)]
    assert ids[0] == ids[2] != ids[1]


def test_key_belongs_to_one_route(runflow_client: RunflowClient) -> None:
    assert runflow_client.create_run(**{"idempotency-key": "k"}).status_code == 201
    other = runflow_client.create_run(edit=True, **{"idempotency-key": "k"})
    assert other.status_code == 409


def test_replay_of_a_synchronous_order_returns_its_inline_images(runflow_client: RunflowClient) -> None:
    body = {"prompt": "x", "quality": "low", "sync_mode": True}
    first, again = (
        runflow_client.request("POST", "/v1/run/openai/gpt-image-2", body, **{"idempotency-key": "k"}) for _ in range(2)
    )
    assert first.json() == again.json()
    assert first.json()["outputs"][0]["url"].startswith("data:image/png;base64,")


def test_replay_of_a_synchronous_order_waits_for_the_running_order(
    sandbox: RunningSandbox, runflow_client: RunflowClient
) -> None:
    """The first client times out; a repeat with the same key gets the result of the first order."""
    sandbox.hold_orders()
    headers = runflow_client.headers | {"idempotency-key": "k"}
    body = {"prompt": "x", "quality": "low"}
    with httpx.Client(base_url=sandbox.url, trust_env=False, timeout=0.1) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/runflow/v1/run/openai/gpt-image-2", json=body, headers=headers)
    wait_until(lambda: len(sandbox.list_requests("runflow", "submit")) == 1, "the order has arrived")
    with ThreadPoolExecutor(1) as repeats:
        repeat = repeats.submit(sandbox.http.post, "/runflow/v1/run/openai/gpt-image-2", json=body, headers=headers)
        wait_until(lambda: len(sandbox.list_requests("runflow", "submit")) == 2, "the repeat has arrived")
        sandbox.release_orders()
        again = repeat.result()
    assert again.status_code == 200
    assert len(again.json()["images"]) == len(sandbox.list_charges()) == 1
