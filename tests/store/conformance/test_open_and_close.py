"""A store's replica id, partitions and warnings, and what it does when closed."""

import asyncio

from gateway.store.base import Applied
from gateway.store.partitions import PARTITIONS, job_partition
from tests.store import job_factory
from tests.store.store_harness import LEASE_SECONDS, StoreHarness


async def test_store_has_the_given_replica_id(harness: StoreHarness) -> None:
    assert harness.store.replica_id == "one"


async def test_default_replica_ids_are_unique(harness: StoreHarness) -> None:
    names = {(await harness.reopen(replica_id=None)).replica_id for _ in range(3)}
    assert len(names) == 3
    assert "" not in names


async def test_healthy_store_has_no_warnings(harness: StoreHarness) -> None:
    assert harness.store.warnings == ()


async def test_job_id_contains_the_partition_of_its_team(harness: StoreHarness) -> None:
    for team in job_factory.pick_teams_of_different_partitions(PARTITIONS):
        job = await harness.create_job(team)
        assert await harness.store.load_job(job.id) == job
    harness.advance_time(LEASE_SECONDS)
    claimed = [claim.job.id for claim in await harness.store.claim_jobs(PARTITIONS + 1)]
    assert {job_partition(job) for job in claimed} == set(range(PARTITIONS))
    assert len(claimed) == PARTITIONS


async def test_close_finishes_pending_commits(harness: StoreHarness) -> None:
    commits = [harness.make_create_commit() for _ in range(50)]
    pending = [asyncio.create_task(harness.store.commit(commit)) for commit in commits]
    await asyncio.sleep(0)
    store = await harness.reopen("one")
    assert await asyncio.gather(*pending) == [Applied()] * 50
    assert await job_factory.gather_all(store.load_job(commit.job.id) for commit in commits) == [
        commit.job for commit in commits
    ]


async def test_closed_store_can_be_closed_again(harness: StoreHarness) -> None:
    await harness.store.close()
    await harness.store.close()
