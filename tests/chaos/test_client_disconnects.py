"""Thousands of disconnecting clients leak no files, connections or tasks, and change no job."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos import store_audit
from tests.chaos.chaos_config import SELLERS
from tests.chaos.disconnecting_clients import STAGE_WEIGHTS, DisconnectingClients
from tests.chaos.persistent_clients import post_job
from tests.chaos.store_setups import StoreSetup
from tests.harness.gateway_process import OTHER_TEAM_KEY, GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store import redis_servers

CLIENT_COUNT, SEED, CHECK_ORDER_COUNT = 5_000, 7, 100


@pytest.mark.thorough
def test_five_thousand_disconnecting_clients_leak_nothing(
    redis_setup: StoreSetup, redis_server: redis_servers.RedisServer, sandbox: RunningSandbox
) -> None:
    environ = {**redis_setup.environ, "IGW_LOG": "json"}
    with run_replica(redis_setup.folder, redis_setup.config, environ) as gateway:
        _expect_all_complete(gateway, "before")
        before = _count_resources_when_idle(gateway, redis_server)
        with gateway.make_client() as client:
            sandbox.inject_fault("stuck", vendor="runapi", times=1)
            stuck_job_id = post_job(client, "stuck", "runapi").json()["id"]
        clients = DisconnectingClients(gateway.port, stuck_job_id, SEED)
        asyncio.run(clients.run_all(CLIENT_COUNT))
        assert clients.disconnect_counts.total() == CLIENT_COUNT
        assert all(clients.disconnect_counts[stage] > CLIENT_COUNT / 20 for stage in STAGE_WEIGHTS)
        wait_until(lambda: gateway.read_metric("igw_jobs_in_flight") == 1, "only the stuck job is in flight")
        _expect_all_complete(gateway, "after")
        wait_until(
            lambda: _is_back_to_baseline(gateway, redis_server, before),
            f"resources are back to {before}",
        )
        assert gateway.read_metric("igw_internal_errors_total") == 0, gateway.read_log()[-4_000:]
        gateway.stop_immediately()
    snapshot = store_audit.read_snapshot(redis_setup.make_store)
    assert {job.state for name, job in snapshot.jobs.items() if name != stuck_job_id} == {"completed"}
    store_audit.assert_matches_invoice(snapshot, sandbox)


def test_request_for_a_job_of_another_team_does_not_wait(store_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    """Another team's job looks like an unknown one. A delay would reveal that it exists."""
    sandbox.inject_fault("stuck", vendor="runapi", times=1)
    with (
        run_replica(store_setup.folder, store_setup.config, store_setup.environ) as gateway,
        gateway.make_client() as client,
    ):
        job = post_job(client, "stuck", "runapi").json()["id"]
        other_team_headers = {"authorization": f"Bearer {OTHER_TEAM_KEY}"}
        began = time.monotonic()
        answer = client.get(f"/v1/jobs/{job}?wait=30", headers=other_team_headers)
        assert answer.status_code == 404
        assert time.monotonic() - began < 20
        gateway.stop_immediately()


def _expect_all_complete(gateway: GatewayProcess, key_prefix: str) -> None:
    orders = [(f"{key_prefix}-{number}", SELLERS[number % len(SELLERS)]) for number in range(CHECK_ORDER_COUNT)]
    with gateway.make_client() as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda order: post_job(client, *order, 60), orders))
    assert [answer.json()["status"] for answer in answers] == ["completed"] * CHECK_ORDER_COUNT


def _count_resources_when_idle(gateway: GatewayProcess, server: redis_servers.RedisServer) -> dict[str, int]:
    wait_until(gateway.is_idle, "no job is in flight")
    return _count_resources(gateway, server)


def _count_resources(gateway: GatewayProcess, server: redis_servers.RedisServer) -> dict[str, int]:
    clients = [line for line in server.execute("CLIENT", "LIST").splitlines() if line]
    return {**gateway.count_resources(), "redis": len(clients)}


def _is_back_to_baseline(gateway: GatewayProcess, server: redis_servers.RedisServer, before: dict[str, int]) -> bool:
    """The stuck job has a worker, a listener and a poll with one connection; the rest must be as before.

    Thread pools start their threads when they need them and keep them: up to 12 for storage, image conversion and
    asyncio.
    """
    current = _count_resources(gateway, server)
    print(f"before {before}, now {current}")
    allowed = {"tasks": 5, "files": 4, "threads": 12, "redis": 1}
    return all(current[resource] <= before[resource] + tolerance for resource, tolerance in allowed.items())
