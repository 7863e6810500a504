"""A gateway or its Redis is paused for longer than a lease: every order is completed once."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.chaos import store_audit
from tests.chaos.chaos_config import SELLERS
from tests.chaos.job_batches import post_jobs, wait_for_jobs
from tests.chaos.persistent_clients import post_job
from tests.chaos.process_pauses import STORE_TIMEOUT_SECONDS, pause_process
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.gateway_process import run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store.redis_servers import RedisServer

JOB_COUNT = 80


def test_paused_gateway_continues_its_own_orders(store_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    """No replica reclaimed its jobs, and only its own connections receive the responses."""
    sandbox.hold_orders()
    with run_replica(store_setup.folder, store_setup.config, store_setup.environ) as gateway:
        jobs = [job for seller in SELLERS for job in post_jobs(gateway, seller, 2)]
        wait_until(
            lambda: gateway.read_metric("igw_account_orders_in_flight") == len(jobs), "all orders are in progress"
        )
        with pause_process(gateway.pid, LEASE_SECONDS + 1.5):
            sandbox.release_orders()
        final_jobs = wait_for_jobs(gateway, jobs)
        assert {job["status"] for job in final_jobs} == {"completed"}, [
            (job["error"], job["attempts"]) for job in final_jobs
        ]
        assert [len(job["attempts"]) for job in final_jobs] == [1] * len(jobs)
        wait_until(gateway.is_idle, "all jobs are settled")
        gateway.stop()
    store_audit.audit_store(store_setup.make_store, sandbox, jobs)
    assert len(sandbox.list_charges()) == len(jobs)


@pytest.mark.thorough
def test_orders_and_responses_survive_a_paused_redis(
    redis_setup: StoreSetup, redis_server: RedisServer, sandbox: RunningSandbox
) -> None:
    """Redis executes commits whose callers have timed out. A repeated commit is recognized."""
    sandbox.set_latency(3.0, 2.0)
    with run_replica(redis_setup.folder, redis_setup.config, redis_setup.environ) as gateway:
        with gateway.make_client() as client, ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(_post_numbered_job, client, number) for number in range(JOB_COUNT)]
            wait_until(lambda: sum(future.done() for future in futures) >= JOB_COUNT // 3, "some jobs are accepted")
            with pause_process(redis_server.pid, STORE_TIMEOUT_SECONDS + 2.5):
                pass
            answers = [future.result() for future in futures]
        assert {answer.status_code for answer in answers} <= {202, 503}
        jobs = [answer.json()["id"] for answer in answers if answer.status_code == 202]
        final_jobs = wait_for_jobs(gateway, jobs)
        assert {job["status"] for job in final_jobs} == {"completed"}, [
            job["attempts"] for job in final_jobs if job["error"]
        ]
        assert [len(job["attempts"]) for job in final_jobs] == [1] * len(jobs)
        wait_until(lambda: gateway.stays_idle(LEASE_SECONDS + 1.5), "all jobs are settled")
        gateway.stop()
    snapshot = store_audit.audit_store(redis_setup.make_store, sandbox, jobs)
    assert not any(attempt.suspected_amount for attempt in snapshot.attempts.values())
    assert len(sandbox.list_charges()) == sum(job.captured_amount > 0 for job in snapshot.jobs.values())


@pytest.mark.thorough
def test_request_with_unknown_outcome_is_bought_only_if_retried_with_its_key(
    redis_setup: StoreSetup, redis_server: RedisServer, sandbox: RunningSandbox
) -> None:
    """With a key, a retry returns the job; without one, it is a new order."""
    with run_replica(redis_setup.folder, redis_setup.config, redis_setup.environ) as gateway:
        with gateway.make_client() as client, ThreadPoolExecutor(8) as pool:
            with pause_process(redis_server.pid, STORE_TIMEOUT_SECONDS + 2.5):
                futures = [pool.submit(_post_numbered_job, client, number, number % 2 == 0) for number in range(8)]
            assert {future.result().status_code for future in futures} == {503}
            retries = [_post_numbered_job(client, number) for number in range(0, 8, 2)]
        final_jobs = wait_for_jobs(gateway, [answer.json()["id"] for answer in retries])
        assert {job["status"] for job in final_jobs} == {"completed"}
        wait_until(lambda: gateway.stays_idle(LEASE_SECONDS + 1.5), "all jobs are settled")
        gateway.stop()
    assert len(sandbox.list_charges()) == len(retries)
    store_audit.assert_matches_invoice(store_audit.read_snapshot(redis_setup.make_store), sandbox)


def _post_numbered_job(client: httpx.Client, number: int, is_keyed: bool = True) -> httpx.Response:
    if is_keyed:
        return post_job(client, f"key-{number}", SELLERS[number % len(SELLERS)])
    return client.post("/v1/jobs", json={"prompt": f"no key {number}", "quality": "low", "policy": "runapi"})
