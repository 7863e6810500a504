"""SIGTERM: what is running finishes, or is handed over; nobody who waits is left in the dark."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.chaos import books, configs
from tests.chaos.clients import body, post
from tests.chaos.gateways import Gateway, gateway, until
from tests.chaos.places import Stored
from tests.vendors import Vendors

SELLERS = ("runapi", "runflow-runs", "openai")


@pytest.fixture
def one(stored: Stored) -> Iterator[Gateway]:
    with gateway(stored.folder, stored.config, stored.environ) as running:
        yield running


def test_running_jobs_finish_and_new_ones_are_refused(one: Gateway, stored: Stored, sandbox: Vendors) -> None:
    sandbox.latency(2.0)
    with ThreadPoolExecutor(12) as pool, one.client() as client:
        images = [pool.submit(_generate, client, seller, f"image-{n}") for seller in SELLERS for n in range(2)]
        jobs = [pool.submit(post, client, f"waits-{seller}", seller, 30) for seller in SELLERS]
        until(lambda: one.metric("igw_jobs_in_flight") == 9, "all are accepted")
        one.signal(signal.SIGTERM)
        told = until(lambda: _draining(client), "it says so", seconds=1)
        assert told["ready"] is False
        refused = post(client, "late", "runapi")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert "x-should-retry" not in refused.headers
        assert [answer.result().status_code for answer in images] == [200] * 6
        assert [answer.result().json()["status"] for answer in jobs] == ["completed"] * 3
    assert one.ended(10) == 0, one.said()[-4_000:]
    found = books.read(stored.make)
    assert len(found.jobs) == 9
    books.assert_in_order(found, found.jobs)
    books.assert_invoice_is_explained(found, sandbox)


def test_what_was_asked_before_is_answered_with_its_job_although_new_ones_are_refused(
    one: Gateway, sandbox: Vendors
) -> None:
    sandbox.latency(4.0)
    with one.client() as client:
        job = post(client, "waits", "runapi").json()["id"]
        one.signal(signal.SIGTERM)
        until(lambda: _draining(client), "it says so", seconds=1)
        assert post(client, "late", "runapi").status_code == 503
        again = post(client, "waits", "runapi", 30)
        assert again.headers["idempotent-replayed"] == "true"
        assert (again.json()["id"], again.json()["status"]) == (job, "completed")
    assert one.ended(10) == 0, one.said()[-4_000:]
    assert len(sandbox.charges()) == 1


def _generate(client: httpx.Client, seller: str, name: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/v1/images/generations", json=body(f"{name}-{seller}", seller), headers=named)


def _draining(client: httpx.Client) -> Any:
    answer = client.get("/readyz")
    return answer.json() if answer.status_code == 503 else None


def test_what_takes_too_long_is_handed_over_and_not_ordered_again(stored: Stored, sandbox: Vendors) -> None:
    """The leases outlast the test: whoever takes the jobs over was given them."""
    configs.write(stored.config, sandbox.url, lease=120)
    sandbox.latency(2.5)
    environ = {**stored.environ, "IGW_DRAIN_SECONDS": "0.5"}
    with gateway(stored.folder, stored.config, environ) as one:
        with one.client() as client:
            answers = [post(client, f"{seller}-{n}", seller) for seller in ("runapi", "runflow-runs") for n in range(8)]
        names = [answer.json()["id"] for answer in answers]
        until(lambda: _are_ticketed(one, names), "all have a ticket")
        one.signal(signal.SIGTERM)
        began = time.monotonic()
        assert one.ended(10) == 0, one.said()[-4_000:]
        assert time.monotonic() - began < 2.5
        assert books.read(stored.make).unsettled() != []
        one.start()
        with one.client() as client:
            found = [client.get(f"/v1/jobs/{name}?wait=30").json() for name in names]
        assert {job["status"] for job in found} == {"completed"}
        until(one.is_idle, "all is settled")
        one.stop()
    saved = books.read(stored.make)
    books.assert_in_order(saved, names)
    books.assert_invoice_is_explained(saved, sandbox)
    assert len(sandbox.charges()) == len(names)
    assert all(attempt.captured for attempt in saved.attempts.values())


def _are_ticketed(at: Gateway, names: list[str]) -> bool:
    with at.client() as client:
        jobs = [client.get(f"/v1/jobs/{name}").json() for name in names]
    return all([attempt["state"] for attempt in job["attempts"]] == ["ticketed"] for job in jobs)


def test_whoever_still_waits_when_the_time_is_over_is_told_where_the_job_is(stored: Stored, sandbox: Vendors) -> None:
    sandbox.latency(6.0)
    environ = {**stored.environ, "IGW_DRAIN_SECONDS": "0.5"}
    with gateway(stored.folder, stored.config, environ) as one, ThreadPoolExecutor(3) as pool, one.client() as client:
        job = pool.submit(post, client, "waits", "runapi", 60)
        images = pool.submit(_generate, client, "runapi", "image", x_stainless_retry_count="0")
        stranger = pool.submit(_generate, client, "runapi", "stranger")
        until(lambda: one.metric("igw_account_orders") == 3, "all are ordered")
        one.signal(signal.SIGTERM)
        began = time.monotonic()
        assert job.result().status_code == 202
        assert job.result().json()["status"] == "in_progress"
        assert images.result().status_code == 503
        assert images.result().json()["error"]["code"] == "draining"
        assert images.result().headers["x-igw-job-id"].startswith("job_")
        assert "retry-after" in images.result().headers, "its client is led back to the job"
        assert stranger.result().status_code == 424, "the same again would be another order"
        assert stranger.result().json()["error"]["code"] == "draining"
        assert stranger.result().headers["x-igw-job-id"] in stranger.result().json()["error"]["message"]
        assert one.ended(10) == 0
        assert time.monotonic() - began < 4


def test_a_second_signal_ends_it_at_once(one: Gateway, stored: Stored, sandbox: Vendors) -> None:
    sandbox.latency(20.0)
    with ThreadPoolExecutor(2) as pool, one.client() as client:
        waiting = pool.submit(post, client, "waits", "runapi", 60)
        until(lambda: one.metric("igw_account_orders") == 1, "it is ordered")
        one.signal(signal.SIGTERM)
        until(lambda: _draining(client), "it says so", seconds=1)
        began = time.monotonic()
        one.signal(signal.SIGTERM)
        one.ended(10)
        assert time.monotonic() - began < 2
        waiting.exception()
    assert [job.state for job in books.read(stored.make).jobs.values()] == ["in_progress"]
