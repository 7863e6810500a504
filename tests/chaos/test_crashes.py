"""kill -9 after random progress: no job is lost, nothing is bought twice, the ledger matches the invoice."""

import contextlib
import random
import subprocess
from itertools import islice

import pytest
from msgspec.structs import replace

from tests.chaos import store_audit
from tests.chaos.chaos_config import SELLERS
from tests.chaos.job_batches import INPUT_DATA_URI
from tests.chaos.persistent_clients import ClientOrder, PersistentClients
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.child_spec import ChildSpec
from tests.harness.gateway_process import GatewayProcess
from tests.harness.progress_kills import make_progress_kill_hook
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.timings import CHAOS_TIMINGS, change_timing
from tests.harness.wait import GUARD_SECONDS, wait_until

JOB_COUNT, KILL_COUNT = 100, 30
SEEDS = {"sqlite": 41, "redis": 42}
# There is always enough to do for the next life: a job takes about 16 steps.
FIRST_ORDERS, ORDERS_PER_LIFE = 13, 3
SETTLING_TIMEOUT_SECONDS = 300.0
# A busy Redis counts as slow, not as unavailable.
CHILD = ChildSpec(change_timing(CHAOS_TIMINGS, store={"command_timeout_seconds": GUARD_SECONDS}))
# Ends a life without progress. A busy machine may need a quarter of it for a start alone.
LIFE_TIMEOUT_SECONDS = 120.0


@pytest.mark.thorough
def test_hundred_jobs_survive_thirty_kills(store_setup: StoreSetup, sandbox: RunningSandbox) -> None:
    seed = SEEDS[store_setup.kind]
    random_source = random.Random(seed)  # noqa: S311 - it must be repeatable
    sandbox.set_latency(0.6, 0.2)
    gateway = GatewayProcess(store_setup.folder, store_setup.config, store_setup.environ)
    orders = [_make_order(number) for number in range(JOB_COUNT)]
    remaining_orders = iter(orders)
    clients = PersistentClients([gateway.url], seed)
    try:
        for life in range(KILL_COUNT):
            clients.start(islice(remaining_orders, ORDERS_PER_LIFE if life else FIRST_ORDERS))
            _live_for_steps(gateway, _draw_steps(random_source))
        gateway.child = CHILD
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


def _draw_steps(random_source: random.Random) -> int:
    """Draws the step of the next kill: at once, early, or in the middle of work."""
    return random_source.randint(*random_source.choice(((1, 4), (5, 25), (25, 60))))


def _live_for_steps(gateway: GatewayProcess, steps: int) -> None:
    """Starts the gateway, which kills itself at this step. Kills it if it makes no progress."""
    gateway.child = replace(CHILD, hooks=(make_progress_kill_hook(steps),))
    gateway.launch()
    with contextlib.suppress(subprocess.TimeoutExpired):
        gateway.process.wait(LIFE_TIMEOUT_SECONDS)
    gateway.kill_if_running()


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
