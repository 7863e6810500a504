"""One request is one job, however often it is sent: by its key, or by an SDK's word that it is sent again."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.api.answers import IMAGES, JOBS, refused
from tests.serving import Serving

PROMPT = {"prompt": "a lighthouse"}


def order(gateway: Serving, path: str, key: str | None, retry: int = 0, **fields: Any) -> httpx.Response:
    headers = {"prefer": "wait=30", "x-stainless-retry-count": str(retry)}
    if key is not None:
        headers["idempotency-key"] = key
    return gateway.http.post(path, json=PROMPT | fields, headers=headers)


def job_of(answer: httpx.Response) -> str:
    assert answer.status_code in (200, 202), answer.text[:300]
    return answer.headers["x-igw-job-id"]


@pytest.mark.parametrize("path", [JOBS, IMAGES])
def test_the_same_key_and_body_is_the_same_job(gateway: Serving, path: str) -> None:
    before, key = len(gateway.vendors.charges()), f"key-{uuid4()}"
    first, again = order(gateway, path, key), order(gateway, path, key)
    assert job_of(first) == job_of(again)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert first.headers["x-request-id"] != again.headers["x-request-id"]
    if path == IMAGES:
        assert first.json() == again.json()
    assert len(gateway.vendors.charges()) - before == 1


def test_the_same_key_with_another_body_or_route_is_422(gateway: Serving) -> None:
    key = f"key-{uuid4()}"
    job = job_of(order(gateway, JOBS, key))
    error = refused(order(gateway, JOBS, key, n=2), 422, "idempotency_key_reused")
    assert "new key" in error["message"]
    refused(order(gateway, IMAGES, key), 422, "idempotency_key_reused")
    assert job_of(order(gateway, JOBS, key)) == job


def test_a_refused_request_leaves_its_key_free(gateway: Serving) -> None:
    key = f"key-{uuid4()}"
    refused(order(gateway, JOBS, key, n=99), 400)
    assert "idempotent-replayed" not in order(gateway, JOBS, key).headers


def test_fifty_at_once_with_one_key_are_one_job(gateway: Serving) -> None:
    gateway.vendors.latency(0.3)
    before, key = len(gateway.vendors.charges()), f"key-{uuid4()}"
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: order(gateway, JOBS, key), range(50)))
    assert len({job_of(one) for one in answers}) == 1
    assert Counter("idempotent-replayed" in one.headers for one in answers) == {True: 49, False: 1}
    assert len(gateway.vendors.charges()) - before == 1


def test_without_a_key_the_same_request_is_another_job(gateway: Serving) -> None:
    assert job_of(order(gateway, JOBS, None)) != job_of(order(gateway, JOBS, None))


@pytest.mark.parametrize("path", [JOBS, IMAGES])
def test_what_an_sdk_sends_again_by_itself_is_the_job_that_it_sent_before(gateway: Serving, path: str) -> None:
    prompt = f"a lighthouse {uuid4()}"
    first = order(gateway, path, None, prompt=prompt)
    again = order(gateway, path, None, retry=1, prompt=prompt)
    assert job_of(first) == job_of(again)
    assert again.headers["idempotent-replayed"] == "true"
    assert job_of(order(gateway, path, None, retry=1, prompt=f"{prompt}!")) != job_of(first)


def test_what_an_sdk_sends_again_while_the_first_is_still_running(gateway: Serving) -> None:
    gateway.vendors.latency(0.5)
    before, prompt = len(gateway.vendors.charges()), f"a lighthouse {uuid4()}"
    hasty = gateway.http.post(JOBS, json={"prompt": prompt})
    assert hasty.status_code == 202
    assert job_of(order(gateway, JOBS, None, retry=1, prompt=prompt)) == job_of(hasty)
    assert len(gateway.vendors.charges()) - before == 1


def test_a_retry_of_what_never_arrived_is_a_new_job(gateway: Serving) -> None:
    assert "idempotent-replayed" not in order(gateway, JOBS, None, retry=2, prompt=f"lost {uuid4()}").headers
