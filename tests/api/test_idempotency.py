"""One request is one job, however often it is sent: recognized by its key, or by the SDK's retry header."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.error_responses import IMAGES_PATH, JOBS_PATH, expect_final_error
from tests.harness.gateway_runner import RunningGateway

BODY = {"prompt": "a lighthouse"}


def post_order(gateway: RunningGateway, path: str, key: str | None, retry: int = 0, **fields: Any) -> httpx.Response:
    headers = {"prefer": "wait=30", "x-stainless-retry-count": str(retry)}
    if key is not None:
        headers["idempotency-key"] = key
    return gateway.http.post(path, json=BODY | fields, headers=headers)


def get_job_id(answer: httpx.Response) -> str:
    assert answer.status_code in (200, 202), answer.text[:300]
    return answer.headers["x-igw-job-id"]


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
def test_retry_with_same_key_and_body_returns_same_job(gateway: RunningGateway, path: str) -> None:
    before, key = len(gateway.sandbox.list_charges()), f"key-{uuid4()}"
    first, retry = post_order(gateway, path, key), post_order(gateway, path, key)
    assert get_job_id(first) == get_job_id(retry)
    assert "idempotent-replayed" not in first.headers
    assert retry.headers["idempotent-replayed"] == "true"
    assert first.headers["x-request-id"] != retry.headers["x-request-id"]
    if path == IMAGES_PATH:
        assert first.json() == retry.json()
    assert len(gateway.sandbox.list_charges()) - before == 1


def test_same_key_with_another_body_or_route_is_rejected_with_422(gateway: RunningGateway) -> None:
    key = f"key-{uuid4()}"
    job = get_job_id(post_order(gateway, JOBS_PATH, key))
    error = expect_final_error(post_order(gateway, JOBS_PATH, key, n=2), 422, "idempotency_key_reused")
    assert "new key" in error["message"]
    expect_final_error(post_order(gateway, IMAGES_PATH, key), 422, "idempotency_key_reused")
    assert get_job_id(post_order(gateway, JOBS_PATH, key)) == job


def test_rejected_request_does_not_use_up_its_key(gateway: RunningGateway) -> None:
    key = f"key-{uuid4()}"
    expect_final_error(post_order(gateway, JOBS_PATH, key, n=99), 400)
    assert "idempotent-replayed" not in post_order(gateway, JOBS_PATH, key).headers


def test_fifty_concurrent_requests_with_one_key_create_one_job(gateway: RunningGateway) -> None:
    gateway.sandbox.set_latency(0.3)
    before, key = len(gateway.sandbox.list_charges()), f"key-{uuid4()}"
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: post_order(gateway, JOBS_PATH, key), range(50)))
    assert len({get_job_id(answer) for answer in answers}) == 1
    assert Counter("idempotent-replayed" in answer.headers for answer in answers) == {True: 49, False: 1}
    assert len(gateway.sandbox.list_charges()) - before == 1


def test_same_request_without_key_creates_another_job(gateway: RunningGateway) -> None:
    assert get_job_id(post_order(gateway, JOBS_PATH, None)) != get_job_id(post_order(gateway, JOBS_PATH, None))


@pytest.mark.parametrize("path", [JOBS_PATH, IMAGES_PATH])
def test_sdk_retry_returns_the_job_of_its_first_request(gateway: RunningGateway, path: str) -> None:
    prompt = f"a lighthouse {uuid4()}"
    first = post_order(gateway, path, None, prompt=prompt)
    retry = post_order(gateway, path, None, retry=1, prompt=prompt)
    assert get_job_id(first) == get_job_id(retry)
    assert retry.headers["idempotent-replayed"] == "true"
    assert get_job_id(post_order(gateway, path, None, retry=1, prompt=f"{prompt}!")) != get_job_id(first)


def test_sdk_retry_attaches_to_the_running_job(gateway: RunningGateway) -> None:
    gateway.sandbox.set_latency(0.5)
    before, prompt = len(gateway.sandbox.list_charges()), f"a lighthouse {uuid4()}"
    first = gateway.http.post(JOBS_PATH, json={"prompt": prompt})
    assert first.status_code == 202
    assert get_job_id(post_order(gateway, JOBS_PATH, None, retry=1, prompt=prompt)) == get_job_id(first)
    assert len(gateway.sandbox.list_charges()) - before == 1


def test_sdk_retry_of_a_request_that_never_arrived_creates_a_job(gateway: RunningGateway) -> None:
    assert "idempotent-replayed" not in post_order(gateway, JOBS_PATH, None, retry=2, prompt=f"lost {uuid4()}").headers
