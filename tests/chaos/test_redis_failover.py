"""The primary of Redis is killed while two gateways create and run jobs, and Sentinels or a Cluster replace it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from gateway.jobs.job import AttemptState
from gateway.store.redis import RedisStore
from tests.chaos import chaos_config, store_audit
from tests.chaos.chaos_config import SELLERS
from tests.chaos.failover_servers import FailoverServers, run_failover_servers, wait_for_replication
from tests.chaos.job_batches import post_jobs, wait_for_jobs
from tests.chaos.persistent_clients import ClientOrder, PersistentClients
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.gateway_environ import make_redis_environ
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until

JOB_COUNT, KILL_COUNT, SEED = 80, 2, 51
SETTLING_TIMEOUT_SECONDS = 120.0


def create_failover_setup(
    folder: Path, sandbox: RunningSandbox, servers: FailoverServers, wait_replicas: int
) -> StoreSetup:
    config = chaos_config.write_config(folder / "config", sandbox.url, LEASE_SECONDS)
    chaos_config.replace_text(config / "gateway.yaml", "jobs:", f"store: {{wait_replicas: {wait_replicas}}}\njobs:")
    environ = make_redis_environ(servers.url, folder / "images")
    return StoreSetup("redis", folder / "gateway", config, environ, lambda: RedisStore(servers.url))


@contextmanager
def run_two_replicas(setup: StoreSetup) -> Iterator[tuple[GatewayProcess, GatewayProcess]]:
    with (
        run_replica(setup.folder / "1", setup.config, setup.environ) as first,
        run_replica(setup.folder / "2", setup.config, setup.environ) as second,
    ):
        yield first, second


@pytest.mark.thorough
@pytest.mark.parametrize(("kind", "wait_replicas"), [("sentinel", 1), ("cluster", 0)])
def test_kills_of_the_primary_lose_no_job_that_a_replica_has(
    kind: str, wait_replicas: int, tmp_path: Path, sandbox: RunningSandbox
) -> None:
    """The primary is killed twice under load. Nothing is bought twice, and the ledger matches the invoice. Without
    `wait_replicas`, jobs may be lost that were accepted between the last confirmation of the replica and the kill."""
    sandbox.set_latency(0.6, 0.2)
    orders = [ClientOrder(f"key-{number:03}", SELLERS[number % len(SELLERS)]) for number in range(JOB_COUNT)]
    endangered: set[str] = set()
    with run_failover_servers(kind, tmp_path / "redis", replica_count=2) as servers:
        setup = create_failover_setup(tmp_path, sandbox, servers, wait_replicas)
        with run_two_replicas(setup) as gateways:
            clients = PersistentClients([gateway.url for gateway in gateways], SEED)
            remaining_orders = iter(orders)
            try:
                for number in range(KILL_COUNT):
                    clients.start(islice(remaining_orders, JOB_COUNT // (KILL_COUNT + 1)))
                    share = (number + 1) * JOB_COUNT // (KILL_COUNT + 2)
                    wait_until(lambda share=share: len(clients.jobs_by_key) >= share, "some jobs are accepted")
                    endangered |= replace_primary(servers, clients)
                clients.start(remaining_orders)
                clients.wait_until_done()
            finally:
                clients.close()
            settle_all_jobs(setup, gateways)
        accepted = set(clients.jobs_by_key.values())
        snapshot = store_audit.read_snapshot(setup.make_store)
    lost = accepted - snapshot.jobs.keys()
    print(f"seed {SEED}, {snapshot.count_outcomes()}, {clients.replay_count} replays, {len(lost)} jobs lost")
    assert len(accepted) == JOB_COUNT
    assert lost <= (set() if wait_replicas else endangered)
    assert snapshot.jobs.keys() == accepted - lost
    store_audit.assert_consistent(snapshot, accepted - lost)
    store_audit.assert_matches_invoice(snapshot, sandbox, lost)


def replace_primary(servers: FailoverServers, clients: PersistentClients) -> set[str]:
    """Kills the primary. After the failover it starts again, as a replica. Returns the jobs that were accepted since a
    replica had confirmed all."""
    primary = servers.primary
    replicated = set(clients.jobs_by_key.values())
    wait_for_replication(primary)
    primary.kill()
    servers.wait_for_failover(primary)
    accepted = set(clients.jobs_by_key.values())
    servers.restart(primary)
    return accepted - replicated


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
@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
def test_jobs_that_the_replica_has_not_received_are_lost_and_others_are_right(
    kind: str, tmp_path: Path, sandbox: RunningSandbox
) -> None:
    """Without `wait_replicas`. The orders of lost jobs are on the invoice, and in no job."""
    with run_failover_servers(kind, tmp_path / "redis") as servers:
        setup = create_failover_setup(tmp_path, sandbox, servers, wait_replicas=0)
        with run_two_replicas(setup) as gateways:
            first, second = gateways
            finished = post_jobs(first, "runapi", 4, "finished")
            assert {job["status"] for job in wait_for_jobs(first, finished)} == {"completed"}
            sandbox.hold_orders()
            running = [*post_jobs(first, "runapi", 4, "running"), *post_jobs(second, "runflow-runs", 4, "running")]
            wait_until(lambda: has_tickets_of(setup, running), "the tickets of the orders are saved")
            wait_for_replication(servers.primary)

            servers.cut_replication()
            sandbox.release_orders()
            lost = [*post_jobs(first, "runapi", 4, "lost"), *post_jobs(second, "runflow-runs", 4, "lost")]
            # The ends of the running jobs are lost, too. Their orders are known, and are polled again.
            job_count = len([*finished, *running, *lost])
            wait_until(lambda: len(sandbox.list_charges()) == job_count, "all orders are charged")
            old_primary = servers.primary
            old_primary.kill()
            servers.wait_for_failover(old_primary)

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
