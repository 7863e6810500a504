"""Each of many keys is posted five times at once over two replicas, which are killed meanwhile: one job per key."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.jobs.job import JobState
from tests.chaos import store_audit
from tests.chaos.concurrent_posts import ConcurrentPosts
from tests.chaos.store_setups import LEASE_SECONDS, StoreSetup
from tests.harness.gateway_process import GatewayProcess, run_replica
from tests.harness.sandbox_runner import RunningSandbox
from tests.harness.wait import wait_until

COPIES = 5
KEYS_AT_ONCE = 50
# RunAPI honours its idempotency keys, so that every job is delivered whatever a kill interrupts.
SELLER_WITH_KEYS, PRICE_MICROS = "runapi", 60_000
# Each kill breaks a post of nearly all keys that are in flight.
MIN_INTERRUPTED_SHARE = 0.1


@pytest.fixture
def replicas(redis_setup: StoreSetup) -> Iterator[list[GatewayProcess]]:
    with ExitStack() as running:
        yield [
            running.enter_context(run_replica(redis_setup.folder / name, redis_setup.config, redis_setup.environ))
            for name in ("1", "2")
        ]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("seller", "key_count"), [(SELLER_WITH_KEYS, 2_000), ("runflow-runs", 300), ("runflow-run", 300), ("openai", 300)]
)
def test_each_of_many_keys_creates_one_job_while_replicas_are_killed(
    seller: str,
    key_count: int,
    replicas: list[GatewayProcess],
    redis_setup: StoreSetup,
    sandbox: RunningSandbox,
) -> None:
    sandbox.set_latency(0.2)
    keys = [f"key-{number:04}" for number in range(key_count)]
    posts = ConcurrentPosts([gateway.url for gateway in replicas], seller, COPIES)
    asyncio.run(post_and_kill(posts, keys, replicas))
    print(f"{len(posts.interrupted_keys)} keys interrupted, {posts.repeat_count} posts repeated")
    assert len(posts.interrupted_keys) >= MIN_INTERRUPTED_SHARE * key_count
    assert posts.answer_count == key_count * COPIES
    for gateway in replicas:
        wait_until(lambda gateway=gateway: gateway.stays_idle(LEASE_SECONDS + 1.5), "all jobs are settled")
    for gateway in replicas:
        gateway.stop()

    snapshot = store_audit.read_snapshot(redis_setup.make_store)
    print(snapshot.count_outcomes())
    assert {key: len(job_ids) for key, job_ids in posts.job_ids_by_key.items()} == dict.fromkeys(keys, 1)
    assert set().union(*posts.job_ids_by_key.values()) == snapshot.jobs.keys()
    assert len(snapshot.jobs) == len({job.client_key for job in snapshot.jobs.values()}) == key_count
    store_audit.assert_settled(snapshot)
    store_audit.assert_matches_invoice(snapshot, sandbox)
    undelivered = {job.client_key for job in snapshot.jobs.values() if job.state is not JobState.COMPLETED}
    if seller == SELLER_WITH_KEYS:
        assert undelivered == set()
        assert [charge["usd_micros"] for charge in sandbox.list_charges()] == [PRICE_MICROS] * key_count
        assert snapshot.captured_micros == key_count * PRICE_MICROS
    else:
        assert len(undelivered) <= len(posts.interrupted_keys)
        assert len(sandbox.list_charges()) <= key_count


async def post_and_kill(posts: ConcurrentPosts, keys: list[str], replicas: list[GatewayProcess]) -> None:
    kill_count = max(4, len(keys) // 200)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(posts.post_all(keys, KEYS_AT_ONCE))
        for number in range(kill_count):
            await posts.wait_for_keys((number + 1) * len(keys) // (kill_count + 1))
            await asyncio.to_thread(restart_after_kill, replicas[number % len(replicas)])


def restart_after_kill(gateway: GatewayProcess) -> None:
    gateway.kill()
    gateway.start()
