"""kill -9 at random moments: no job is lost, nothing is bought twice, the ledger matches the invoice."""

import random
import time

import pytest

from tests.chaos import store_audit
from tests.chaos.chaos_config import SELLERS
from tests.chaos.job_batches import INPUT_DATA_URI
from tests.chaos.persistent_clients import ClientOrder, PersistentClients
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.gateway_process import GatewayProcess
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until

JOB_COUNT, KILL_COUNT = 100, 30
SEEDS = {"sqlite": 41, "redis": 42}
ORDERING_SECONDS = 30.0
SETTLING_TIMEOUT_SECONDS = 60.0


@pytest.mark.thorough
def test_hundred_jobs_survive_thirty_kills(store_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    seed = SEEDS[store_setup.kind]
    random_source = random.Random(seed)  # noqa: S311 - it must be repeatable
    sandbox.set_latency(0.6, 0.2)
    gateway = GatewayProcess(store_setup.folder, store_setup.config, store_setup.environ)
    orders = [_make_order(number) for number in range(JOB_COUNT)]
    gateway.start()
    clients = PersistentClients([gateway.url], orders, ORDERING_SECONDS, seed)
    try:
        for _ in range(KILL_COUNT):
            time.sleep(_draw_lifetime(random_source))
            gateway.kill()
            gateway.start()
        clients.wait_until_done()
        snapshot = wait_until(
            lambda: _read_settled_snapshot(gateway, store_setup),
            "all jobs are settled",
            timeout_seconds=SETTLING_TIMEOUT_SECONDS,
        )
    finally:
        clients.close()
        gateway.kill_if_running()
    edits = sum(order.image is not None for order in orders)
    print(f"seed {seed}, {edits} edits, {snapshot.count_outcomes()}, {clients.replay_count} replays")
    assert len(clients.jobs_by_key) == JOB_COUNT
    store_audit.assert_consistent(snapshot, clients.jobs_by_key.values())
    assert len(snapshot.jobs) == JOB_COUNT
    assert [name for name, job in snapshot.jobs.items() if job.is_abandoned] == [], (
        "no job is abandoned: none crashed its worker"
    )
    store_audit.assert_matches_invoice(snapshot, sandbox)


def _make_order(number: int) -> ClientOrder:
    """Makes every third order an edit, except at OpenAI, which sells no edits here."""
    seller = SELLERS[number % len(SELLERS)]
    image = INPUT_DATA_URI if number % 3 == 0 and seller != "openai" else None
    return ClientOrder(f"key-{number:03}", seller, image)


def _draw_lifetime(random_source: random.Random) -> float:
    """Draws the seconds until the next kill: during startup, early, or in the middle of work."""
    return random_source.choice(
        (random_source.uniform(0.0, 0.3), random_source.uniform(0.3, 1.5), random_source.uniform(1.0, 2.5))
    )


def _read_settled_snapshot(gateway: GatewayProcess, store_setup: StoreSetup) -> store_audit.StoreSnapshot | None:
    """Returns the store's content once all jobs are settled. Stops the gateway before it reads SQLite."""
    if not gateway.stays_idle(LEASE_SECONDS + 1.5):
        return None
    gateway.stop()
    snapshot = store_audit.read_snapshot(store_setup.make_store)
    if snapshot.list_unsettled_jobs():
        gateway.start()
        return None
    return snapshot
