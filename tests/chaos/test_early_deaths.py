"""Gateways that die early, again and again: only the job that kills them is given up, and none that was ordered."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from gateway.jobs.recovery import RESCUES_WITHOUT_PROGRESS
from tests.chaos import books, configs
from tests.chaos.gateways import KEY, STRANGERS_KEY, Gateway, until
from tests.chaos.places import Stored, place
from tests.chaos.test_replicas import ended, posted
from tests.vendors import Vendors

LEASE = 1.0
DEATHS = 3
# Of one job: two crashes before its count stands, and those that are counted.
MOST_DEATHS = 2 + RESCUES_WITHOUT_PROGRESS


def hasty(stored: Stored, sandbox: Vendors) -> Stored:
    """Whose leases are short, so that a death costs little time."""
    return replace(stored, config=configs.write(stored.config, sandbox.url, LEASE))


def ordered(gateway: Gateway) -> list[str]:
    """Thirty jobs, whose tickets are known."""
    jobs = [job for seller in ("runapi", "runflow-runs") for job in posted(gateway, seller, 15)]
    for job in jobs:
        until(lambda job=job: "ticketed" in gateway.get(f"/v1/jobs/{job}").text, "its ticket is known")
    return jobs


def test_three_deaths_in_a_row_cost_no_job_in_flight(tmp_path: Path, sandbox: Vendors) -> None:
    """Each within the lease, as soon as it has claimed anything."""
    stored = hasty(place(tmp_path, sandbox, None), sandbox)
    sandbox.latency(2 + DEATHS * (LEASE + 1.5))
    gateway = Gateway(stored.folder, stored.config, stored.environ)
    try:
        gateway.start()
        jobs = ordered(gateway)
        gateway.kill()
        for _ in range(DEATHS):
            gateway.start()
            until(lambda: gateway.metric("igw_rescues_total"), "some are claimed")
            gateway.kill()
        gateway.start()
        found = ended(gateway, jobs)
        failed = [(job["error"], job["attempts"]) for job in found if job["status"] != "completed"]
        assert failed == []
        until(lambda: gateway.is_idle_for(LEASE + 1.5), "all is settled")
        gateway.stop()
    finally:
        gateway.discard()
    saved = books.read(stored.make)
    books.assert_in_order(saved, jobs)
    books.assert_invoice_is_explained(saved, sandbox)
    assert len(sandbox.charges()) == len(jobs)


@contextmanager
def dying(stored: Stored, how: str) -> Iterator[Gateway]:
    """A gateway that a stranger's job kills, and that is started again as often as it dies."""
    gateway = Gateway(stored.folder, stored.config, {**stored.environ, "CHAOS_POISON": how})
    over = threading.Event()

    def keep_alive() -> None:
        while not over.wait(0.05):
            if gateway.has_died():
                gateway.ended()
                gateway.start()

    gateway.start()
    keeper = threading.Thread(target=keep_alive)
    keeper.start()
    try:
        yield gateway
    finally:
        over.set()
        keeper.join()
        gateway.discard()


def asked(gateway: Gateway, path: str, key: str = KEY) -> httpx.Response:
    """By a client that asks again while the gateway is away."""
    headers = {"authorization": f"Bearer {key}"}
    while True:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(gateway.url + path, headers=headers, timeout=40.0, trust_env=False)
        time.sleep(0.1)


@pytest.mark.parametrize("how", ["buying", "buying later"])
def test_of_all_jobs_only_the_one_that_kills_its_worker_fails(shared: Stored, sandbox: Vendors, how: str) -> None:
    """At once, or after three seconds and many renewals: that job fails after a bounded number of crashes."""
    sandbox.latency(4.0)
    with dying(hasty(shared, sandbox), how) as gateway:
        jobs = ordered(gateway)
        poison = ordered_by_a_stranger(gateway)
        found = [asked(gateway, f"/v1/jobs/{job}?wait=30").json() for job in jobs]
        assert Counter(job["status"] for job in found) == {"completed": len(jobs)}
        until(lambda: poison_of(gateway, poison)["status"] == "failed", "it is over", seconds=120)
        until(lambda: gateway.is_idle_for(LEASE + 1.5), "all is settled")
    saved = books.read(shared.make)
    books.assert_in_order(saved, jobs)
    books.assert_invoice_is_explained(saved, sandbox)
    assert len(sandbox.charges()) == len(jobs)
    said = gateway.said()
    assert "got nowhere with it" in said
    assert said.count("listening on") <= 1 + MOST_DEATHS


def poison_of(gateway: Gateway, name: str) -> dict[str, Any]:
    job: dict[str, Any] = asked(gateway, f"/v1/jobs/{name}", STRANGERS_KEY).json()
    return job


def ordered_by_a_stranger(gateway: Gateway) -> str:
    """Posts until the client gets its job, since its process may crash right after accepting it."""
    headers = {"authorization": f"Bearer {STRANGERS_KEY}", "idempotency-key": "poison"}
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.post(
                f"{gateway.url}/v1/jobs", json={"prompt": "poison", "quality": "low"}, headers=headers, trust_env=False
            )
            return str(answer.json()["id"])
        time.sleep(0.1)
