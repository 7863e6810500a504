"""The primary behind Sentinels is killed: jobs continue on its replica, and what is lost is what the page says."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.jobs.commit import Commit
from gateway.store.base import Applied, StoreOutcomeUnknown, StoreUnavailable
from gateway.store.redis import RedisStore
from gateway.timeouts_and_intervals import StoreTiming
from tests.harness.wait import wait_for_value_async
from tests.store import job_factory
from tests.store.job_factory import NOON
from tests.store.redis.redis_stores import count_discrepancies, open_store, run_async
from tests.store.redis.sentinel_servers import SentinelDeployment, run_sentinel_deployment
from tests.store.redis_servers import SERVER_PROGRAMS

TIMING = StoreTiming(restart_grace_seconds=0.0)
FAILOVER_SECONDS = 120.0


@pytest.fixture(params=SERVER_PROGRAMS)
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SentinelDeployment]:
    with run_sentinel_deployment(tmp_path, program=request.param) as running:
        yield running


async def commit_until_available(store: RedisStore, commit: Commit) -> object:
    """Sends a commit until the store answers."""

    async def try_commit() -> object:
        try:
            return await store.commit(commit)
        except StoreUnavailable as error:
            return error

    return await wait_for_value_async(
        try_commit,
        lambda outcome: not isinstance(outcome, StoreUnavailable),
        "the commit is answered",
        FAILOVER_SECONDS,
    )


@pytest.mark.thorough
def test_unreplicated_commits_are_lost_in_a_failover_and_earlier_ones_are_not(deployment: SentinelDeployment) -> None:
    """Without `wait_replicas`. The connections lead to the new primary, and killed replicas are found there, too."""
    replicated, last = (job_factory.make_create_commit(NOON) for _ in range(2))

    async def scenario() -> None:
        async with (
            open_store(deployment.url, replica_id="one", timing=TIMING) as store,
            open_store(deployment.url, replica_id="two", timing=TIMING) as other,
        ):
            assert await store.commit(replicated) == Applied()
            await asyncio.to_thread(_wait_for_replication, deployment)
            await asyncio.to_thread(deployment.cut_replication)
            assert await store.commit(last) == Applied()
            old_primary = deployment.primary
            await asyncio.to_thread(old_primary.kill)
            await asyncio.to_thread(deployment.wait_for_failover, old_primary)
            later = job_factory.make_create_commit(NOON)
            assert await commit_until_available(store, later) == Applied()
            assert await store.load_job(replicated.job.id) == replicated.job
            assert await store.load_job(last.job.id) is None
            assert await count_discrepancies(store) == 0
            await other.expire_leases_of_killed_replicas()
            for _ in range(5):
                assert await store.expire_leases_of_killed_replicas() == 0, "a connected replica counts as killed"

    run_async(scenario())


@pytest.mark.thorough
def test_no_acknowledged_commit_is_lost_with_wait_replicas(deployment: SentinelDeployment) -> None:
    """A replica that was cut off for longer than ten times `down-after-milliseconds` is not promoted."""
    timing = StoreTiming(restart_grace_seconds=0.0, command_timeout_seconds=1.5)
    acknowledged, unconfirmed = (job_factory.make_create_commit(NOON) for _ in range(2))

    async def scenario() -> None:
        async with open_store(deployment.url, wait_replicas=1, timing=timing) as store:
            assert await store.commit(acknowledged) == Applied()
            await asyncio.to_thread(deployment.cut_replication)
            for _ in range(2):
                with pytest.raises(StoreOutcomeUnknown, match=r"store\.wait_replicas"):
                    await store.commit(unconfirmed)
            old_primary = deployment.primary
            await asyncio.to_thread(old_primary.kill)
            await asyncio.to_thread(deployment.wait_for_failover, old_primary)
        async with open_store(deployment.url) as survivor:
            assert await survivor.load_job(acknowledged.job.id) == acknowledged.job
            assert await survivor.load_job(unconfirmed.job.id) is None
            assert await count_discrepancies(survivor) == 0
            assert await survivor.commit(unconfirmed) == Applied()

    run_async(scenario())


def _wait_for_replication(deployment: SentinelDeployment) -> None:
    with deployment.primary.make_client() as client:
        client.execute_command("SET", "replicated", "1")
        assert client.execute_command("WAIT", 1, 60_000) == 1
