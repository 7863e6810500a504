"""A replica whose configuration lacks a job's seller releases the job to a replica that has it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chaos import chaos_config, store_audit
from tests.chaos.chaos_config import replace_text
from tests.chaos.persistent_clients import post_job
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until

RELEASE_MESSAGE = "The job was released for a replica that has them."
# The time in which only the replica without the seller runs, and its maximum number of claims per job.
ALONE_SECONDS, MAX_CLAIMS = 5.0, 8


def write_config_without_runapi(folder: Path, url: str) -> Path:
    """Writes the configuration without RunAPI's offers and without policies that name it."""
    config = chaos_config.write_config(folder, url, LEASE_SECONDS)
    (config / "offers" / "runapi.yaml").unlink()
    replace_text(config / "policies.yaml", "  runapi: {rank: listed, sellers: [runapi]}\n", "")
    replace_text(config / "policies.yaml", "sellers: [runflow-runs, runapi, openai, runflow-run]", "sellers: [openai]")
    replace_text(config / "teams.yaml", "runapi, ", "")
    return config


@pytest.fixture
def gateway_without_runapi(redis_setup: StoreSetup, sandbox: RunningSandbox) -> Iterator[GatewayProcess]:
    """A gateway that is not started yet."""
    gateway = GatewayProcess(
        redis_setup.folder / "without-runapi",
        write_config_without_runapi(redis_setup.folder / "other", sandbox.url),
        redis_setup.environ,
    )
    try:
        yield gateway
    finally:
        gateway.kill_if_running()


@pytest.fixture
def gateway_with_runapi(redis_setup: StoreSetup) -> Iterator[GatewayProcess]:
    """A running gateway whose RunAPI account accepts one order at a time."""
    replace_text(
        redis_setup.config / "accounts.yaml", "replay: trusted", "replay: trusted\n    limits: {concurrency: 1}"
    )
    with run_replica(redis_setup.folder / "with-runapi", redis_setup.config, redis_setup.environ) as gateway:
        yield gateway


def start_ordered_and_queued_job(gateway: GatewayProcess) -> list[str]:
    with gateway.make_client() as client:
        jobs = [post_job(client, "made", "runapi").json()["id"]]
        wait_until(lambda: get_attempt_states(client, jobs[0]) == ["ticketed"], "the first job has a ticket")
        jobs.append(post_job(client, "waiting", "runapi").json()["id"])
        wait_until(lambda: gateway.read_metric("igw_jobs_in_flight") == 2, "both jobs are in flight")
        assert get_attempt_states(client, jobs[1]) == []
    return jobs


def get_attempt_states(client: httpx.Client, job: str) -> list[str]:
    return [attempt["state"] for attempt in client.get(f"/v1/jobs/{job}").json()["attempts"]]


def get_jobs(gateway: GatewayProcess, jobs: list[str], wait_seconds: int = 0) -> list[dict[str, Any]]:
    with gateway.make_client() as client:
        return [client.get(f"/v1/jobs/{job}?wait={wait_seconds}").json() for job in jobs]


@pytest.mark.thorough
def test_jobs_wait_for_a_replica_that_configures_their_seller(
    gateway_with_runapi: GatewayProcess,
    gateway_without_runapi: GatewayProcess,
    redis_setup: StoreSetup,
    sandbox: RunningSandbox,
) -> None:
    sandbox.hold_orders()
    jobs = start_ordered_and_queued_job(gateway_with_runapi)
    gateway_with_runapi.kill()
    gateway_without_runapi.start()
    wait_until(
        lambda: gateway_without_runapi.read_log().count(RELEASE_MESSAGE) == len(jobs),
        "the replica has released both jobs",
    )
    deadline = time.monotonic() + ALONE_SECONDS
    wait_until(lambda: time.monotonic() > deadline, "ALONE_SECONDS are over")
    assert [job["status"] for job in get_jobs(gateway_without_runapi, jobs)] == ["in_progress", "queued"]
    assert gateway_without_runapi.read_log().count(RELEASE_MESSAGE) == len(jobs)
    assert gateway_without_runapi.read_metric("igw_jobs_reclaimed_total") <= len(jobs) * MAX_CLAIMS
    wait_until(gateway_without_runapi.is_idle, "the replica works on neither job")
    gateway_with_runapi.start()
    sandbox.release_orders()
    final_jobs = get_jobs(gateway_with_runapi, jobs, wait_seconds=60)
    assert [(job["status"], len(job["attempts"])) for job in final_jobs] == [("completed", 1)] * 2
    wait_until(gateway_with_runapi.is_idle, "all jobs are settled")
    assert len(sandbox.list_charges("runapi")) == 2
    gateway_with_runapi.stop()
    gateway_without_runapi.stop()
    store_audit.audit_store(redis_setup.make_store, sandbox, jobs)


@pytest.mark.thorough
def test_job_without_a_replica_for_its_seller_expires_at_its_deadline(
    gateway_with_runapi: GatewayProcess,
    gateway_without_runapi: GatewayProcess,
    redis_setup: StoreSetup,
    sandbox: RunningSandbox,
) -> None:
    deadline = 8.0
    before = gateway_with_runapi.get("/readyz").json()["config"]["in_force"]
    replace_text(redis_setup.config / "gateway.yaml", "jobs: {", f"jobs: {{deadline_seconds: {deadline}, ")
    wait_until(
        lambda: gateway_with_runapi.get("/readyz").json()["config"]["in_force"] != before, "the change is in force"
    )
    sandbox.hold_orders()
    began = time.monotonic()
    _, waiting = start_ordered_and_queued_job(gateway_with_runapi)
    gateway_with_runapi.kill()
    gateway_without_runapi.start()
    [job] = get_jobs(gateway_without_runapi, [waiting], wait_seconds=30)
    assert (job["status"], job["attempts"]) == ("expired", [])
    assert time.monotonic() - began >= deadline
