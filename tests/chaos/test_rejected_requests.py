"""An SDK's first request is rejected and its retry succeeds: an equal request of another client gets its own job."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.chaos.store_setups import StoreSetup
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store.redis_servers import RedisServer

PROMPT = "rejected at first"


def _post_generation(gateway: GatewayProcess, retry: int, prompt: str = PROMPT) -> httpx.Response:
    with gateway.make_client() as client:
        body, headers = {"prompt": prompt, "quality": "low"}, {"x-stainless-retry-count": str(retry)}
        return client.post("/v1/images/generations", json=body, headers=headers)


def _get_new_job_id(gateway: GatewayProcess, retry: int) -> str:
    """Sends a request, and returns the id of its new job."""
    answer = _post_generation(gateway, retry)
    assert answer.status_code == 200, answer.text
    assert "idempotent-replayed" not in answer.headers
    return str(answer.headers["x-igw-job-id"])


@contextmanager
def _reject_all_orders(sandbox: RunningSandbox) -> Iterator[None]:
    sandbox.inject_fault("status", route="submit", status=429)
    yield
    sandbox.call_control_route("DELETE", "/faults")


@contextmanager
def _fill_store(server: RedisServer) -> Iterator[None]:
    server.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.execute("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize(
    "retries", [(1, 0, 0), (0, 1, 0)], ids=["first requests after the retry", "first requests around the retry"]
)
def test_retry_of_a_rejected_request_and_first_requests_get_separate_jobs(
    store_setup: StoreSetup, sandbox: RunningSandbox, retries: tuple[int, ...]
) -> None:
    with run_replica(store_setup.folder, store_setup.config, store_setup.environ) as gateway:
        with _reject_all_orders(sandbox):
            rejected = _post_generation(gateway, 0)
        assert rejected.status_code == 503
        wait_until(
            lambda: _post_generation(gateway, 0, "anything else").status_code == 200, "sellers accept orders again"
        )
        before = len(sandbox.list_charges())
        jobs = [_get_new_job_id(gateway, retry) for retry in retries]
    assert len({*jobs, rejected.headers["x-igw-job-id"]}) == len(jobs) + 1
    assert len(sandbox.list_charges()) - before == len(jobs)


def test_first_request_does_not_get_the_job_of_a_retry_of_a_rejected_request(
    redis_setup: StoreSetup, sandbox: RunningSandbox, redis_server: RedisServer
) -> None:
    """The process that rejected the first request still has it in memory."""
    with run_replica(redis_setup.folder, redis_setup.config, redis_setup.environ) as gateway:
        with _fill_store(redis_server):
            rejected = [_post_generation(gateway, 0), _post_generation(gateway, 1), _post_generation(gateway, 0)]
        assert [answer.status_code for answer in rejected] == [503] * 3
        assert not any("x-igw-job-id" in answer.headers for answer in rejected)
        jobs = [_get_new_job_id(gateway, retry) for retry in (2, 1, 0, 0)]
    assert len(set(jobs)) == len(sandbox.list_charges()) == 4
