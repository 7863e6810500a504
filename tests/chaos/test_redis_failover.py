"""The primary of Redis is killed while two gateways create and run jobs, and Sentinels replace it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from gateway.jobs.job import AttemptState
from gateway.store.redis import RedisStore
from tests.chaos import chaos_config, store_audit
from tests.chaos.chaos_config import SELLERS
from tests.chaos.job_batches import post_jobs, wait_for_jobs
from tests.chaos.persistent_clients import ClientOrder, PersistentClients
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until
from tests.store.redis.sentinel_servers import (
    SentinelDeployment,
    count_connected_replicas,
    run_sentinel_deployment,
)

JOB_COUNT, KILL_COUNT, SEED = 80, 2, 51
SETTLING_TIMEOUT_SECONDS = 120.0


def create_sentinel_setup(
    folder: Path, sandbox: RunningSandbox, deployment: SentinelDeployment, wait_replicas: int
) -> StoreSetup:
    config = chaos_config.write_config(folder / "config", sandbox.url, LEASE_SECONDS)
    chaos_config.replace_text(config / "gateway.yaml", "jobs:", f"store: {{wait_replicas: {wait_replicas}}}\njobs:")
    url = deployment.create_user()
    environ = make_redis_environ(url, folder / "images")
    return StoreSetup("redis", folder / "gateway", config, environ, lambda: RedisStore(url))


@contextmanager
def run_two_replicas(setup: StoreSetup) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    with (
        run_replica(setup.folder / "1", setup.config, setup.environ) as first,
        run_replica(setup.folder / "2", setup.config, setup.environ) as second,
    ):
        yield first, second


@pytest.mark.thorough
def test_no_acknowledged_job_is_lost_with_wait_replicas(tmp_path: Path, sandbox: RunningSandbox) -> None:
    """The primary is killed twice under load. Nothing is bought twice, and the ledger matches the invoice."""
    sandbox.set_latency(0.6, 0.2)
    orders = [ClientOrder(f"key-{number:03}", SELLERS[number % len(SELLERS)]) for number in range(JOB_COUNT)]
    with run_sentinel_deployment(tmp_path / "redis", replica_count=2) as deployment:
        setup = create_sentinel_setup(tmp_path, sandbox, deployment, wait_replicas=1)
        with run_two_replicas(setup) as gateways:
            clients = PersistentClients([gateway.url for gateway in gateways], SEED)
            remaining_orders = iter(orders)
            try:
                for number in range(KILL_COUNT):
                    clients.start(islice(remaining_orders, JOB_COUNT // (KILL_COUNT + 1)))
                    share = (number + 1) * JOB_COUNT // (KILL_COUNT + 2)
                    wait_until(lambda share=share: len(clients.jobs_by_key) >= share, "some jobs are accepted")
                    replace_primary(deployment)
                clients.start(remaining_orders)
                clients.wait_until_done()
            finally:
                clients.close()
            settle_all_jobs(setup, gateways)
        snapshot = store_audit.audit_store(setup.make_store, sandbox, clients.jobs_by_key.values())
    print(f"seed {SEED}, {snapshot.count_outcomes()}, {clients.replay_count} replays")
    assert len(snapshot.jobs) == len(clients.jobs_by_key) == JOB_COUNT


def replace_primary(deployment: SentinelDeployment) -> None:
    """Kills the primary. After the failover it starts again, as a replica."""
    old_primary = deployment.primary
    old_primary.kill()
    new_primary = deployment.wait_for_failover(old_primary)
    old_primary.start()
    deployment.create_user()
    wait_until(
        lambda: count_connected_replicas(new_primary) == len(deployment.servers) - 1,
        "the old primary is a replica",
        timeout_seconds=SETTLING_TIMEOUT_SECONDS,
    )


def settle_all_jobs(setup: StoreSetup, gateways: tuple[GatewayProcess, ...]) -> None:
    """Waits until all jobs are settled, and stops the gateways."""
    wait_until(
        lambda: not store_audit.read_snapshot(setup.make_store).list_unsettled_jobs(),
        "all jobs are settled",
        timeout_seconds=SETTLING_TIMEOUT_SECONDS,
    )
    for gateway in gateways:
        gateway.stop()


@pytest.mark.thorough
def test_jobs_that_the_replica_has_not_received_are_lost_and_others_are_right(
    tmp_path: Path, sandbox: RunningSandbox
) -> None:
    """Without `wait_replicas`. The orders of lost jobs are on the invoice, and in no job."""
    with run_sentinel_deployment(tmp_path / "redis") as deployment:
        setup = create_sentinel_setup(tmp_path, sandbox, deployment, wait_replicas=0)
        with run_two_replicas(setup) as gateways:
            first, second = gateways
            finished = post_jobs(first, "runapi", 4, "finished")
            assert {job["status"] for job in wait_for_jobs(first, finished)} == {"completed"}
            sandbox.hold_orders()
            running = [*post_jobs(first, "runapi", 4, "running"), *post_jobs(second, "runflow-runs", 4, "running")]
            wait_until(lambda: has_tickets_of(setup, running), "the tickets of the orders are saved")
            wait_for_replication(deployment)

            deployment.cut_replication()
            sandbox.release_orders()
            lost = [*post_jobs(first, "runapi", 4, "lost"), *post_jobs(second, "runflow-runs", 4, "lost")]
            # The ends of the running jobs are lost, too. Their orders are known, and are polled again.
            job_count = len([*finished, *running, *lost])
            wait_until(lambda: len(sandbox.list_charges()) == job_count, "all orders are charged")
            old_primary = deployment.primary
            old_primary.kill()
            deployment.wait_for_failover(old_primary)

            later = post_until_accepted(second, "later", 4)
            settle_all_jobs(setup, gateways)
        kept = [*finished, *running, *later]
        snapshot = store_audit.read_snapshot(setup.make_store)
    assert snapshot.jobs.keys() == set(kept)
    assert {job.state for job in snapshot.jobs.values()} == {"completed"}
    store_audit.assert_consistent(snapshot, kept)
    assert_each_charge_is_known_or_lost(snapshot, sandbox, lost)


def has_tickets_of(setup: StoreSetup, job_ids: list[str]) -> bool:
    jobs = store_audit.read_snapshot(setup.make_store).jobs
    return all([attempt.state for attempt in jobs[job].attempts] == [AttemptState.TICKETED] for job in job_ids)


def wait_for_replication(deployment: SentinelDeployment) -> None:
    with deployment.primary.make_client() as client:
        client.execute_command("SET", "replicated", "1")
        assert client.execute_command("WAIT", 1, 60_000) == 1


def post_until_accepted(gateway: GatewayProcess, key: str, count: int) -> list[str]:
    orders = [ClientOrder(f"{key}-{number}", "runapi") for number in range(count)]
    clients = PersistentClients([gateway.url], SEED)
    clients.start(orders)
    try:
        clients.wait_until_done()
    finally:
        clients.close()
    return list(clients.jobs_by_key.values())


def assert_each_charge_is_known_or_lost(
    snapshot: store_audit.StoreSnapshot, sandbox: RunningSandbox, lost_job_ids: list[str]
) -> None:
    charges = {line["client_ref"] or line["idempotency_key"]: line["usd_micros"] for line in sandbox.list_charges()}
    assert len(charges) == len(sandbox.list_charges()), "an order was bought twice"
    unknown = charges.keys() - snapshot.attempts.keys()
    assert {reference.rpartition("-")[0] for reference in unknown} <= set(lost_job_ids)
    booked = {reference: attempt.captured_amount for reference, attempt in snapshot.attempts.items()}
    assert booked == {reference: micros for reference, micros in charges.items() if reference not in unknown}
