"""SIGTERM: running jobs finish or are handed over, and every waiting client gets a response."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.chaos import chaos_config, store_audit
from tests.chaos.persistent_clients import make_job_body, post_job
from tests.chaos.store_setups import StoreSetup
from tests.harness.gateway_process import API_KEY, GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.sent_request import SentRequest
from tests.harness.wait import wait_until

SELLERS = ("runapi", "runflow-runs", "openai")
# Longer than any wait of a test.
LONG_SECONDS = 120


@pytest.fixture
def gateway(store_setup: StoreSetup) -> Iterator[GatewayProcess]:
    with run_replica(store_setup.folder, store_setup.config, store_setup.environ) as running:
        yield running


def test_draining_finishes_running_jobs_and_rejects_new_ones(
    gateway: GatewayProcess, store_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    sandbox.hold_orders()
    with ThreadPoolExecutor(12) as pool, gateway.make_client() as client:
        images = [pool.submit(_post_generation, client, seller, f"image-{n}") for seller in SELLERS for n in range(2)]
        jobs = [pool.submit(post_job, client, f"waits-{seller}", seller, 30) for seller in SELLERS]
        wait_until(lambda: gateway.read_metric("igw_jobs_in_flight") == 9, "all requests are accepted")
        gateway.send_signal(signal.SIGTERM)
        readiness = wait_until(lambda: _read_draining_state(client), "/readyz reports draining")
        assert readiness["ready"] is False
        # Alerts use these: a drain causes none.
        assert gateway.read_metric("igw_store_takes_writes") == gateway.read_metric("igw_storage_takes_images") == 1
        rejected = post_job(client, "late", "runapi")
        assert rejected.status_code == 503
        assert int(rejected.headers["retry-after"]) >= 1
        assert rejected.headers["x-should-retry"] == "true"
        sandbox.release_orders()
        assert [answer.result().status_code for answer in images] == [200] * 6
        assert [answer.result().json()["status"] for answer in jobs] == ["completed"] * 3
    assert gateway.wait_for_exit() == 0, gateway.read_log()[-4_000:]
    snapshot = store_audit.read_snapshot(store_setup.make_store)
    assert len(snapshot.jobs) == 9
    store_audit.assert_consistent(snapshot, snapshot.jobs)
    store_audit.assert_matches_invoice(snapshot, sandbox)


@pytest.mark.thorough
def test_draining_answers_retries_of_accepted_requests_with_their_job(
    gateway: GatewayProcess, sandbox: RunningSandbox
) -> None:
    sandbox.hold_orders()
    with gateway.make_client() as client:
        job = post_job(client, "waits", "runapi").json()["id"]
        gateway.send_signal(signal.SIGTERM)
        wait_until(lambda: _read_draining_state(client), "/readyz reports draining")
        assert post_job(client, "late", "runapi").status_code == 503
    headers = {"idempotency-key": "waits", "prefer": "wait=30"}
    with SentRequest(f"{gateway.url}/v1/jobs", API_KEY, make_job_body("waits", "runapi"), headers) as retry:
        sandbox.release_orders()
        answer = retry.read_response()
    assert answer.headers["idempotent-replayed"] == "true"
    assert (answer.json()["id"], answer.json()["status"]) == (job, "completed")
    assert gateway.wait_for_exit() == 0, gateway.read_log()[-4_000:]
    assert len(sandbox.list_charges()) == 1


def _post_generation(client: httpx.Client, seller: str, name: str, **headers: str) -> httpx.Response:
    header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/v1/images/generations", json=make_job_body(f"{name}-{seller}", seller), headers=header_fields)


def _read_draining_state(client: httpx.Client) -> Any:
    answer = client.get("/readyz")
    return answer.json() if answer.status_code == 503 else None


@pytest.mark.thorough
def test_jobs_over_the_drain_time_are_handed_over_without_reordering(
    store_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    """The leases outlast the test, so the jobs can only continue if they were released."""
    chaos_config.write_config(store_setup.config, sandbox.url, lease_seconds=LONG_SECONDS)
    sandbox.hold_orders()
    environ = {**store_setup.environ, "IGW_DRAIN_SECONDS": "0.5"}
    with run_replica(store_setup.folder, store_setup.config, environ) as gateway:
        with gateway.make_client() as client:
            answers = [
                post_job(client, f"{seller}-{n}", seller) for seller in ("runapi", "runflow-runs") for n in range(8)
            ]
        job_ids = [answer.json()["id"] for answer in answers]
        wait_until(lambda: _have_tickets(gateway, job_ids), "all jobs have a ticket")
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait_for_exit() == 0, gateway.read_log()[-4_000:]
        assert store_audit.read_snapshot(store_setup.make_store).list_unsettled_jobs() != []
        gateway.start()
        sandbox.release_orders()
        with gateway.make_client() as client:
            final_jobs = [client.get(f"/v1/jobs/{job_id}?wait=30").json() for job_id in job_ids]
        assert {job["status"] for job in final_jobs} == {"completed"}
        wait_until(gateway.is_idle, "all jobs are settled")
        gateway.stop()
    snapshot = store_audit.audit_store(store_setup.make_store, sandbox, job_ids)
    assert len(sandbox.list_charges()) == len(job_ids)
    assert all(attempt.captured_amount for attempt in snapshot.attempts.values())


def _have_tickets(gateway: GatewayProcess, job_ids: list[str]) -> bool:
    with gateway.make_client() as client:
        jobs = [client.get(f"/v1/jobs/{job_id}").json() for job_id in job_ids]
    return all([attempt["state"] for attempt in job["attempts"]] == ["ticketed"] for job in jobs)


def test_clients_still_waiting_at_the_end_of_draining_get_their_job_id(
    store_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    sandbox.hold_orders()
    environ = {**store_setup.environ, "IGW_DRAIN_SECONDS": "0.5"}
    with (
        run_replica(store_setup.folder, store_setup.config, environ) as gateway,
        ThreadPoolExecutor(3) as pool,
        gateway.make_client() as client,
    ):
        job = pool.submit(post_job, client, "waits", "runapi", 60)
        images = pool.submit(_post_generation, client, "runapi", "image", x_stainless_retry_count="0")
        without_retry_count = pool.submit(_post_generation, client, "runapi", "no-retry-count")
        wait_until(lambda: gateway.read_metric("igw_account_orders_in_flight") == 3, "all orders are in progress")
        gateway.send_signal(signal.SIGTERM)
        assert job.result().status_code == 202
        assert job.result().json()["status"] == "in_progress"
        assert images.result().status_code == 503
        assert images.result().json()["error"]["code"] == "draining"
        assert images.result().headers["x-igw-job-id"].startswith("job_")
        assert "retry-after" in images.result().headers, "a retry leads to the job"
        assert without_retry_count.result().status_code == 424, "a retry would be another order"
        assert without_retry_count.result().json()["error"]["code"] == "draining"
        assert (
            without_retry_count.result().headers["x-igw-job-id"]
            in without_retry_count.result().json()["error"]["message"]
        )
        assert gateway.wait_for_exit() == 0


def test_second_signal_stops_the_gateway_immediately(store_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    sandbox.hold_orders()
    environ = {**store_setup.environ, "IGW_DRAIN_SECONDS": str(LONG_SECONDS)}
    with (
        run_replica(store_setup.folder, store_setup.config, environ) as gateway,
        ThreadPoolExecutor(2) as pool,
        gateway.make_client() as client,
    ):
        waiting = pool.submit(post_job, client, "waits", "runapi", 60)
        wait_until(lambda: gateway.read_metric("igw_account_orders_in_flight") == 1, "the order is in progress")
        gateway.send_signal(signal.SIGTERM)
        wait_until(lambda: _read_draining_state(client), "/readyz reports draining")
        gateway.send_signal(signal.SIGTERM)
        gateway.wait_for_exit()
        waiting.exception()
    assert [job.state for job in store_audit.read_snapshot(store_setup.make_store).jobs.values()] == ["in_progress"]
