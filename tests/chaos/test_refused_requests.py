"""An SDK's first request is refused, and its retry served: an equal request of another client is a job of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.chaos.gateways import Gateway, gateway, until
from tests.chaos.places import Stored
from tests.store.servers import Server
from tests.vendors import Vendors

PROMPT = "refused at first"


def _asked(at: Gateway, retry: int, prompt: str = PROMPT) -> httpx.Response:
    with at.client() as client:
        body, headers = {"prompt": prompt, "quality": "low"}, {"x-stainless-retry-count": str(retry)}
        return client.post("/v1/images/generations", json=body, headers=headers)


def _delivered(at: Gateway, retry: int) -> str:
    """The job of its own that this request gets."""
    answer = _asked(at, retry)
    assert answer.status_code == 200, answer.text
    assert "idempotent-replayed" not in answer.headers
    return str(answer.headers["x-igw-job-id"])


@contextmanager
def _no_seller(sandbox: Vendors) -> Iterator[None]:
    sandbox.fault("status", route="submit", status=429)
    yield
    sandbox.control("DELETE", "/faults")


@contextmanager
def _full_store(server: Server) -> Iterator[None]:
    server.cli("CONFIG", "SET", "maxmemory", "1")
    try:
        yield
    finally:
        server.cli("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize("retries", [(1, 0, 0), (0, 1, 0)], ids=["asked after the retry", "asked before the retry"])
def test_retry_of_a_refused_request_and_first_askings_get_jobs_of_their_own(
    stored: Stored, sandbox: Vendors, retries: tuple[int, ...]
) -> None:
    with gateway(stored.folder, stored.config, stored.environ) as one:
        with _no_seller(sandbox):
            refused = _asked(one, 0)
        assert refused.status_code == 503
        until(lambda: _asked(one, 0, "anything else").status_code == 200, "sellers take orders again")
        before = len(sandbox.charges())
        jobs = [_delivered(one, retry) for retry in retries]
    assert len({*jobs, refused.headers["x-igw-job-id"]}) == len(jobs) + 1
    assert len(sandbox.charges()) - before == len(jobs)


def test_first_asking_is_not_given_the_job_of_a_retry_whose_first_request_became_none(
    shared: Stored, sandbox: Vendors, redis_server: Server
) -> None:
    """The same process has refused it, and still knows."""
    with gateway(shared.folder, shared.config, shared.environ) as one:
        with _full_store(redis_server):
            refused = [_asked(one, 0), _asked(one, 1), _asked(one, 0)]
        assert [answer.status_code for answer in refused] == [503] * 3
        assert not any("x-igw-job-id" in answer.headers for answer in refused)
        jobs = [_delivered(one, retry) for retry in (2, 1, 0, 0)]
    assert len(set(jobs)) == len(sandbox.charges()) == 4
