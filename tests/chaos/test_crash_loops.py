"""Repeated crashes: only the job that crashes its worker is abandoned, and no ordered job."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from gateway.jobs.next_actions import MAX_RECLAIMS_WITHOUT_PROGRESS
from tests.chaos import chaos_config, store_audit
from tests.chaos.job_batches import post_jobs, wait_for_jobs
from tests.chaos.store_setups import StoreSetup, create_store_setup
from tests.harness.child_spec import ChildSpec
from tests.harness.crashes import make_crash_hook
from tests.harness.gateway_process import API_KEY, OTHER_TEAM_KEY, GatewayProcess
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS
from tests.harness.wait import wait_for_value, wait_until

SHORT_LEASE_SECONDS = 1.0
CRASH_COUNT = 3
RESPONSE_TIMEOUT_SECONDS = 120.0
# Of one job: two crashes that may not be counted yet, and the counted ones.
MAX_CRASHES = 2 + MAX_RECLAIMS_WITHOUT_PROGRESS


def shorten_lease(store_setup: StoreSetup, sandbox: RunningSandbox) -> StoreSetup:
    """Writes a configuration with short leases, so that jobs of a crashed gateway are reclaimed soon."""
    return replace(store_setup, config=chaos_config.write_config(store_setup.config, sandbox.url, SHORT_LEASE_SECONDS))


def start_ticketed_jobs(gateway: GatewayProcess) -> list[str]:
    """Starts thirty jobs and waits until each is ordered. On a slow machine, some are completed by then."""
    jobs = [job for seller in ("runapi", "runflow-runs") for job in post_jobs(gateway, seller, 15)]
    for job in jobs:
        wait_until(lambda job=job: is_ordered(gateway, job), "the job has a ticket")
    return jobs


def is_ordered(gateway: GatewayProcess, job: str) -> bool:
    attempts = gateway.get(f"/v1/jobs/{job}").json()["attempts"]
    return any(attempt["state"] != "opened" for attempt in attempts)


@pytest.mark.thorough
def test_three_consecutive_crashes_lose_no_job_in_flight(tmp_path: Path, sandbox: RunningSandbox) -> None:
    """Each crash is within the lease, after the first claimed job."""
    setup = shorten_lease(create_store_setup(tmp_path, sandbox, None), sandbox)
    sandbox.set_latency(2 + CRASH_COUNT * (SHORT_LEASE_SECONDS + 1.5))
    gateway = GatewayProcess(setup.folder, setup.config, setup.environ)
    try:
        gateway.start()
        jobs = start_ticketed_jobs(gateway)
        gateway.kill()
        for _ in range(CRASH_COUNT):
            gateway.start()
            wait_until(lambda: gateway.read_metric("igw_jobs_reclaimed_total"), "some jobs are reclaimed")
            gateway.kill()
        gateway.start()
        final_jobs = wait_for_jobs(gateway, jobs)
        failed = [(job["error"], job["attempts"]) for job in final_jobs if job["status"] != "completed"]
        assert failed == []
        wait_until(lambda: gateway.stays_idle(SHORT_LEASE_SECONDS + 1.5), "all jobs are settled")
        gateway.stop()
    finally:
        gateway.kill_if_running()
    store_audit.audit_store(setup.make_store, sandbox, jobs)
    assert len(sandbox.list_charges()) == len(jobs)


@contextmanager
def run_crashing_gateway(store_setup: StoreSetup, delay_seconds: float) -> Iterator[GatewayProcess]:
    """Runs a gateway that a job of the other team crashes, and restarts it after each crash."""
    child = ChildSpec(CHAOS_TIMINGS, (make_crash_hook("submit", delay_seconds),))
    gateway = GatewayProcess(store_setup.folder, store_setup.config, store_setup.environ, child=child)
    stopped = threading.Event()

    def restart_after_crashes() -> None:
        while not stopped.wait(0.05):
            if gateway.has_exited():
                gateway.wait_for_exit()
                gateway.start()

    gateway.start()
    restarter = threading.Thread(target=restart_after_crashes)
    restarter.start()
    try:
        yield gateway
    finally:
        stopped.set()
        restarter.join()
        gateway.kill_if_running()


def get_with_retries(gateway: GatewayProcess, path: str, key: str = API_KEY) -> httpx.Response:
    """Sends the request until the gateway answers."""
    headers = {"authorization": f"Bearer {key}"}
    return send_with_retries(lambda: httpx.get(gateway.url + path, headers=headers, timeout=40.0, trust_env=False))


def send_with_retries(send: Callable[[], httpx.Response]) -> httpx.Response:
    def send_or_get_error() -> httpx.Response | httpx.TransportError:
        try:
            return send()
        except httpx.TransportError as error:
            return error

    response = wait_for_value(
        send_or_get_error,
        lambda result: isinstance(result, httpx.Response),
        "the gateway answers",
        timeout_seconds=RESPONSE_TIMEOUT_SECONDS,
    )
    assert isinstance(response, httpx.Response)
    return response


@pytest.mark.thorough
@pytest.mark.parametrize("delay_seconds", [0.0, 3.0])
def test_only_the_job_that_crashes_its_worker_fails(
    redis_setup: StoreSetup, sandbox: RunningSandbox, delay_seconds: float
) -> None:
    """The crash comes at once, or after three seconds and many lease renewals. The number of crashes is bounded."""
    sandbox.set_latency(4.0)
    with run_crashing_gateway(shorten_lease(redis_setup, sandbox), delay_seconds) as gateway:
        jobs = start_ticketed_jobs(gateway)
        crashing_job = post_crashing_job(gateway)
        final_jobs = [get_with_retries(gateway, f"/v1/jobs/{job}?wait=30").json() for job in jobs]
        assert Counter(job["status"] for job in final_jobs) == {"completed": len(jobs)}
        wait_until(
            lambda: get_crashing_job(gateway, crashing_job)["status"] == "failed",
            "the crashing job has failed",
            timeout_seconds=120,
        )
        wait_until(lambda: gateway.stays_idle(SHORT_LEASE_SECONDS + 1.5), "all jobs are settled")
    store_audit.audit_store(redis_setup.make_store, sandbox, jobs)
    assert len(sandbox.list_charges()) == len(jobs)
    log = gateway.read_log()
    assert "workers in a row made no progress" in log
    assert log.count("listening on") <= 1 + MAX_CRASHES


def get_crashing_job(gateway: GatewayProcess, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = get_with_retries(gateway, f"/v1/jobs/{job_id}", OTHER_TEAM_KEY).json()
    return job


def post_crashing_job(gateway: GatewayProcess) -> str:
    """Sends the request until it gets a response: the process may crash right after accepting the job."""
    headers = {"authorization": f"Bearer {OTHER_TEAM_KEY}", "idempotency-key": "crash"}
    body = {"prompt": "crash", "quality": "low"}
    answer = send_with_retries(
        lambda: httpx.post(f"{gateway.url}/v1/jobs", json=body, headers=headers, trust_env=False)
    )
    return str(answer.json()["id"])
