"""Communication of replicas: signals that expire after a minute, and changes of jobs that arrive at once."""

import asyncio

from gateway.jobs.job import Job
from gateway.jobs.job_update_types import CallbackReceived, JobUpdate
from gateway.store.base import VersionConflict
from gateway.store.job_watch import JobWatch
from tests.store import job_factory
from tests.store.store_harness import LEASE_SECONDS, StoreHarness

# Less than the time after which a silent subscription is checked.
NOTIFY_TIMEOUT_SECONDS = 4.0


async def drain_watch(watch: JobWatch) -> None:
    """Consumes earlier notifications. False alarms are allowed."""
    while await watch.wait_for_change(0.05):
        pass


async def expect_each_change_reported(harness: StoreHarness, watch: JobWatch, job: Job, *updates: JobUpdate) -> None:
    """Applies the updates one by one at `harness`."""
    for update in updates:
        await drain_watch(watch)
        job = await harness.apply_updates(job, update)
        assert await watch.wait_for_change(NOTIFY_TIMEOUT_SECONDS)


async def test_new_store_has_no_signals(harness: StoreHarness) -> None:
    assert await harness.store.read_signals() == {}


async def test_last_value_of_each_signal_is_read(harness: StoreHarness) -> None:
    await harness.store.publish_signal("health one", b"\x00 first")
    await harness.store.publish_signal("health one", b"\xff second")
    await harness.store.publish_signal("health: {two}", b"")
    assert await harness.store.read_signals() == {"health one": b"\xff second", "health: {two}": b""}


async def test_signal_expires_a_minute_after_its_last_publication(harness: StoreHarness) -> None:
    await harness.store.publish_signal("old", b"1")
    await harness.store.publish_signal("renewed", b"1")
    harness.advance_time(30.0)
    await harness.store.publish_signal("renewed", b"2")
    harness.advance_time(29.9)
    assert await harness.store.read_signals() == {"old": b"1", "renewed": b"2"}
    harness.advance_time(0.2)
    assert await harness.store.read_signals() == {"renewed": b"2"}
    harness.advance_time(30.0)
    assert await harness.store.read_signals() == {}


async def test_replicas_read_the_signals_of_each_other(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another("two") as two:
        await shared_harness.store.publish_signal("from one", b"1")
        await two.publish_signal("from two", b"2")
        assert (
            await two.read_signals()
            == await shared_harness.store.read_signals()
            == {"from one": b"1", "from two": b"2"}
        )


async def test_watch_reports_a_change(harness: StoreHarness) -> None:
    job = await harness.create_job()
    with harness.store.watch(job.id) as watch:
        await drain_watch(watch)
        await harness.apply_updates(job, job_factory.make_attempt_started(job))
        assert await watch.wait_for_change(NOTIFY_TIMEOUT_SECONDS)


async def test_change_before_waiting_is_not_missed(harness: StoreHarness) -> None:
    job = await harness.create_job()
    with harness.store.watch(job.id) as watch:
        await harness.apply_updates(job, job_factory.make_attempt_started(job))
        assert await watch.wait_for_change(NOTIFY_TIMEOUT_SECONDS)


async def test_change_wakes_all_watches_of_the_job(harness: StoreHarness) -> None:
    job = await harness.create_job()
    with harness.store.watch(job.id) as first, harness.store.watch(job.id) as second:
        await job_factory.gather_all([drain_watch(first), drain_watch(second)])
        waits = asyncio.gather(
            first.wait_for_change(NOTIFY_TIMEOUT_SECONDS), second.wait_for_change(NOTIFY_TIMEOUT_SECONDS)
        )
        await asyncio.sleep(0)
        await harness.apply_updates(job, job_factory.make_attempt_started(job))
        assert await waits == [True, True]


async def test_watch_reports_each_change(harness: StoreHarness) -> None:
    job = await harness.create_job()
    with harness.store.watch(job.id) as watch:
        await expect_each_change_reported(
            harness,
            watch,
            job,
            job_factory.make_attempt_started(job),
            job_factory.make_ticket_received(),
            job_factory.make_images_stored(job),
        )


async def test_watch_ignores_other_jobs_and_refused_commits(harness: StoreHarness) -> None:
    job, other = await harness.create_job(), await harness.create_job()
    refused_commit = job_factory.make_update_commit(
        job, job_factory.make_attempt_started(job, route_index=1), harness.now
    )
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    with harness.store.watch(job.id) as watch:
        await drain_watch(watch)
        await harness.apply_updates(other, job_factory.make_attempt_started(other))
        assert await harness.store.commit(refused_commit) == VersionConflict()
        assert not await watch.wait_for_change(0.1)


async def test_unknown_job_can_be_watched(harness: StoreHarness) -> None:
    with harness.store.watch("nonsense") as watch:
        assert not await watch.wait_for_change(0.01)


async def test_change_by_another_replica_is_reported_by_a_notification(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another("two") as two:
        job = await shared_harness.create_job()
        with two.watch(job.id) as watch:
            await expect_each_change_reported(
                shared_harness,
                watch,
                job,
                job_factory.make_attempt_started(job),
                CallbackReceived(attempt=1),
                job_factory.make_ticket_received(),
                job_factory.make_images_stored(job),
            )


async def test_reclaim_does_not_hide_the_next_change(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another("two") as two:
        job = await shared_harness.create_job()
        with shared_harness.store.watch(job.id) as watch:
            shared_harness.advance_time(LEASE_SECONDS)
            (claimed,) = await two.claim_jobs()
            await drain_watch(watch)
            await two.commit(
                job_factory.make_update_commit(
                    claimed.job, job_factory.make_attempt_started(job, fence=2), shared_harness.now
                )
            )
            assert await watch.wait_for_change(NOTIFY_TIMEOUT_SECONDS)
