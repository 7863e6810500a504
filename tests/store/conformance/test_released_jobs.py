"""A released job has no owner: its former owner can neither renew its lease nor update it."""

from tests.store.store_harness import StoreHarness


async def test_late_renewal_does_not_renew_a_released_job(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.release_job(job.id, 1, 1.0)
    assert await harness.store.renew_leases({job.id: 1}) == {job.id}
    harness.advance_time(1.0)
    assert await harness.claim_job_ids() == {job.id}


async def test_released_job_cannot_be_released_again(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert await harness.store.release_job(job.id, 1, 1.0)
    assert not await harness.store.release_job(job.id, 1, 1000.0)
    harness.advance_time(1.0)
    assert await harness.claim_job_ids() == {job.id}
