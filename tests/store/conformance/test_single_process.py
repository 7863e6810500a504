"""SQLite has one process: its behaviour where other stores have several."""

from pathlib import Path

import pytest

from gateway.store.base import ClaimedJob, StoreMisconfigured
from gateway.store.sqlite import SqliteStore
from tests.store import job_factory
from tests.store.store_harness import LEASE_SECONDS, StoreHarness, make_sqlite_harness


def test_second_store_on_the_same_file_is_rejected(tmp_path: Path) -> None:
    harness = make_sqlite_harness(tmp_path)

    async def scenario() -> None:
        job = await harness.create_job()
        with pytest.raises(StoreMisconfigured, match="in use"):
            async with harness.open_another("two"):
                pass
        assert await harness.apply_updates(job, job_factory.make_attempt_started(job))

    try:
        harness.run_async(scenario())
    finally:
        harness.close()


async def test_jobs_are_reclaimed_after_restart_when_their_leases_end(harness: StoreHarness) -> None:
    """For every kind of store. With one process, only a restart makes jobs change their owner."""
    job = await harness.create_job()
    store = await harness.reopen("two")
    assert store.replica_id == "two"
    assert await store.claim_jobs() == ()
    assert await store.renew_leases({job.id: 1}) in (frozenset(), {job.id})
    harness.advance_time(LEASE_SECONDS)
    assert await store.claim_jobs() == (ClaimedJob(job=job, fence=2, reclaims=1),)


async def test_reopening_loses_nothing(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(
        has_webhook=True, idempotency=job_factory.make_client_key(), documents={"request": b"{}"}
    )
    before = harness.raw_store.dump_everything()
    await harness.reopen("one")
    assert harness.raw_store.dump_everything() == before
    assert await harness.store.load_job(job.id) == job


def test_sqlite_has_one_partition() -> None:
    assert len(SqliteStore.partitions) == 1
