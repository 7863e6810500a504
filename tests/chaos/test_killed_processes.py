"""Jobs of a killed process continue without waiting for the end of its leases, those of a paused one do not."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from time import monotonic
from typing import Any

import pytest

from tests.chaos import chaos_config, store_audit
from tests.chaos.job_batches import post_jobs, wait_for_jobs
from tests.chaos.process_pauses import pause_process
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS
from tests.harness.wait import wait_until
from tests.store.redis_servers import RedisServer

# Longer than any wait of a test: only the end of a process can end a lease.
LONG_LEASE_SECONDS = 120
JOB_COUNT = 12
# Six checks for killed replicas.
PAUSE_SECONDS = 3.0
# With the product's grace after a restart of Redis. A busy machine needs longer than the 2 s of an idle one.
CHILD = ChildSpec(CHAOS_TIMINGS)
MAX_RECLAIM_SECONDS = 4.0
# Redis has been running for twice the grace.
MIN_UPTIME_SECONDS = 2 * CHAOS_TIMINGS.store.restart_grace_seconds


@pytest.fixture(autouse=True)
def long_leases(request: pytest.FixtureRequest) -> None:
    setup = request.getfixturevalue("store_setup" if "store_setup" in request.fixturenames else "redis_setup")
    new_line = f"lease_seconds: {LONG_LEASE_SECONDS}"
    chaos_config.replace_text(setup.config / "gateway.yaml", f"lease_seconds: {LEASE_SECONDS}", new_line)


@pytest.fixture
def replicas(redis_setup: StoreSetup, long_leases: None) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    with ExitStack() as running:
        first, second = (running.enter_context(start_replica(redis_setup, name)) for name in ("1", "2"))
        yield first, second


@pytest.mark.thorough
def test_young_replica_reclaims_jobs_of_a_killed_one_within_seconds(
    redis_setup: StoreSetup, redis_server: RedisServer, sandbox: RunningSandbox
) -> None:
    """It has started just before the kill, so the grace after a restart of Redis has not passed."""
    with redis_server.make_client() as client:
        wait_until(lambda: client.info("server")["uptime_in_seconds"] >= MIN_UPTIME_SECONDS, "Redis was not restarted")
    with ExitStack() as running:
        first = running.enter_context(start_replica(redis_setup, "1"))
        jobs = post_running_jobs(first, sandbox)
        second = running.enter_context(start_replica(redis_setup, "2"))
        started_at = monotonic()
        first.kill()
        wait_until(lambda: second.read_metric("igw_jobs_reclaimed_total") == JOB_COUNT, "the jobs were reclaimed")
        assert monotonic() - started_at <= MAX_RECLAIM_SECONDS
        sandbox.release_orders()
        assert_completed_by_first_attempts(wait_for_jobs(second, jobs))


def start_replica(setup: StoreSetup, name: str) -> AbstractContextManager[GatewayProcess]:
    return run_replica(setup.folder / name, setup.config, setup.environ, CHILD)


def test_other_replica_continues_jobs_of_a_killed_one_at_once(
    replicas: tuple[GatewayProcess, GatewayProcess], redis_setup: StoreSetup, sandbox: RunningSandbox
) -> None:
    first, second = replicas
    jobs = post_running_jobs(first, sandbox)
    first.kill()
    sandbox.release_orders()
    assert_completed_by_first_attempts(wait_for_jobs(second, jobs))
    assert second.read_metric("igw_jobs_reclaimed_total") == JOB_COUNT
    wait_until(second.is_idle, "all jobs are settled")
    second.stop()
    store_audit.audit_store(redis_setup.make_store, sandbox, jobs)
    assert len(sandbox.list_charges()) == JOB_COUNT


def test_restarted_gateway_continues_its_jobs_at_once(store_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    """On SQLite, the process that holds the lock can be sure of it. On Redis, the next process finds it out."""
    gateway = GatewayProcess(store_setup.folder, store_setup.config, store_setup.environ, child=CHILD)
    gateway.start()
    try:
        jobs = post_running_jobs(gateway, sandbox)
        gateway.kill()
        sandbox.release_orders()
        gateway.start()
        assert_completed_by_first_attempts(wait_for_jobs(gateway, jobs))
        wait_until(gateway.is_idle, "all jobs are settled")
        gateway.stop()
    finally:
        gateway.kill_if_running()
    store_audit.audit_store(store_setup.make_store, sandbox, jobs)
    assert len(sandbox.list_charges()) == JOB_COUNT


def test_paused_replica_keeps_its_jobs(
    replicas: tuple[GatewayProcess, GatewayProcess], sandbox: RunningSandbox
) -> None:
    first, second = replicas
    jobs = post_running_jobs(first, sandbox)
    with pause_process(first.pid, PAUSE_SECONDS):
        sandbox.release_orders()
    assert_completed_by_first_attempts(wait_for_jobs(first, jobs))
    assert second.read_metric("igw_jobs_reclaimed_total") == 0
    assert len(sandbox.list_charges()) == JOB_COUNT


def post_running_jobs(gateway: GatewayProcess, sandbox: RunningSandbox) -> list[str]:
    """Posts jobs whose orders have reached the seller, which does not complete them yet."""
    sandbox.hold_orders()
    jobs = post_jobs(gateway, "runapi", JOB_COUNT)
    wait_until(lambda: len(sandbox.list_requests("runapi", "submit")) == JOB_COUNT, "all orders reached the seller")
    return jobs


def assert_completed_by_first_attempts(final_jobs: list[dict[str, Any]]) -> None:
    assert {job["status"] for job in final_jobs} == {"completed"}
    assert [len(job["attempts"]) for job in final_jobs] == [1] * JOB_COUNT
