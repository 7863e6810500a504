"""A replica whose configuration lacks a job's seller leaves it to one that has it, however often it is the first."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import books, configs
from tests.chaos.clients import post
from tests.chaos.gateways import Gateway, gateway, until
from tests.chaos.places import LEASE, Stored
from tests.vendors import Vendors

LEFT = "is left to a replica that can go on with it"
MAKING_SECONDS = 3.0
# For so long the replica without the seller is alone with its jobs, each of which it may claim so often at most.
ALONE_SECONDS, MOST_CLAIMS = 5.0, 8


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def without_runapi(folder: Path, url: str) -> Path:
    """As it would be where its key was never known, and nobody was told to buy there."""
    config = configs.write(folder, url, LEASE)
    (config / "offers" / "runapi.yaml").unlink()
    replaced(config / "policies.yaml", "  runapi: {rank: listed, sellers: [runapi]}\n", "")
    replaced(config / "policies.yaml", "sellers: [runflow-runs, runapi, openai, runflow-run]", "sellers: [openai]")
    replaced(config / "teams.yaml", "runapi, ", "")
    return config


@pytest.fixture
def lacking(shared: Stored, sandbox: Vendors) -> Iterator[Gateway]:
    """Not started yet."""
    one = Gateway(shared.folder / "lacking", without_runapi(shared.folder / "other", sandbox.url), shared.environ)
    try:
        yield one
    finally:
        one.discard()


@pytest.fixture
def knowing(shared: Stored) -> Iterator[Gateway]:
    """Its account takes one order at once."""
    replaced(shared.config / "accounts.yaml", "replay: trusted", "replay: trusted\n    limits: {concurrency: 1}")
    with gateway(shared.folder / "knowing", shared.config, shared.environ) as one:
        yield one


def one_made_and_one_waiting(at: Gateway) -> list[str]:
    with at.client() as client:
        jobs = [post(client, "made", "runapi").json()["id"]]
        until(lambda: states(client, jobs[0]) == ["ticketed"], "it is being made")
        jobs.append(post(client, "waiting", "runapi").json()["id"])
        until(lambda: at.metric("igw_jobs_in_flight") == 2, "both are worked on")
        assert states(client, jobs[1]) == []
    return jobs


def states(client: httpx.Client, job: str) -> list[str]:
    return [attempt["state"] for attempt in client.get(f"/v1/jobs/{job}").json()["attempts"]]


def found(at: Gateway, jobs: list[str], wait: int = 0) -> list[dict[str, Any]]:
    with at.client() as client:
        return [client.get(f"/v1/jobs/{job}?wait={wait}").json() for job in jobs]


def test_jobs_wait_for_a_replica_that_can_go_on_with_them(
    knowing: Gateway, lacking: Gateway, shared: Stored, sandbox: Vendors
) -> None:
    sandbox.latency(MAKING_SECONDS)
    jobs = one_made_and_one_waiting(knowing)
    knowing.kill()
    lacking.start()
    until(lambda: lacking.said().count(LEFT) == len(jobs), "it has seen both")
    ends = time.monotonic() + ALONE_SECONDS
    until(lambda: time.monotonic() > ends, "it has been alone for a while")
    assert [job["status"] for job in found(lacking, jobs)] == ["in_progress", "queued"]
    assert lacking.said().count(LEFT) == len(jobs)
    assert lacking.metric("igw_rescues_total") <= len(jobs) * MOST_CLAIMS
    until(lacking.is_idle, "it works on neither")
    knowing.start()
    ended = found(knowing, jobs, wait=60)
    assert [(job["status"], len(job["attempts"])) for job in ended] == [("completed", 1)] * 2
    until(knowing.is_idle, "all is settled")
    assert len(sandbox.charges("runapi")) == 2
    knowing.stop()
    lacking.stop()
    saved = books.read(shared.make)
    books.assert_in_order(saved, jobs)
    books.assert_invoice_is_explained(saved, sandbox)


def test_a_job_that_nobody_can_go_on_with_expires_in_time(
    knowing: Gateway, lacking: Gateway, shared: Stored, sandbox: Vendors
) -> None:
    deadline = 8.0
    before = knowing.get("/readyz").json()["config"]["in_force"]
    replaced(shared.config / "gateway.yaml", "jobs: {", f"jobs: {{deadline_seconds: {deadline}, ")
    until(lambda: knowing.get("/readyz").json()["config"]["in_force"] != before, "the change is taken")
    sandbox.latency(60.0)
    began = time.monotonic()
    _, waiting = one_made_and_one_waiting(knowing)
    knowing.kill()
    lacking.start()
    [job] = found(lacking, [waiting], wait=30)
    assert (job["status"], job["attempts"]) == ("expired", [])
    assert time.monotonic() - began >= deadline
