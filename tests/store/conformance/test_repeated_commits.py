"""A commit that is sent twice, or whose reply was lost, is applied once."""

import asyncio

import pytest
from msgspec.structs import replace

from gateway.jobs.commit import Commit
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import CallbackReceived, ImagesReady, JobUpdate, ResponseLost
from gateway.store.base import MAX_REMEMBERED_COMMITS, Applied, VersionConflict
from tests.store import job_factory
from tests.store.job_factory import CEILING
from tests.store.store_harness import LEASE_SECONDS, StoreHarness


def make_six_updates(job: Job) -> tuple[JobUpdate, ...]:
    return (
        job_factory.make_attempt_started(job),
        ResponseLost(attempt=1),
        CallbackReceived(attempt=1),
        job_factory.make_ticket_received(),
        ImagesReady(attempt=1),
        ImagesReady(attempt=1, cost=41_000),
    )


async def apply_seven_updates(harness: StoreHarness, job: Job) -> Job:
    """Applies as many commits as the store remembers beside the one before them. The last one settles the job."""
    job = await harness.apply_updates(job, *make_six_updates(job), job_factory.make_images_stored(job))
    assert job.is_settled
    return job


def make_full_commit(harness: StoreHarness) -> Commit:
    """Makes a commit with everything that a new job may contain, and a budget that it uses up."""
    return harness.make_create_commit(
        n=2, has_webhook=True, day=2 * CEILING, idempotency=job_factory.make_client_key(), documents={"request": b"{}"}
    )


@pytest.mark.parametrize("times", [1, 2, 9])
async def test_create_commit_repeated_at_once_changes_nothing(harness: StoreHarness, times: int) -> None:
    """Its key exists and its budget is used up by then, but the store recognises the commit first."""
    commit = make_full_commit(harness)
    await harness.apply_commit(commit)
    assert await harness.commit_without_effect(*[commit] * times) == [Applied()] * times


@pytest.mark.parametrize("seconds", [0.0, LEASE_SECONDS, 3600.0])
async def test_create_commit_is_remembered_after_seven_updates(harness: StoreHarness, seconds: float) -> None:
    commit = make_full_commit(harness)
    await apply_seven_updates(harness, await harness.apply_commit(commit))
    harness.advance_time(seconds)
    assert await harness.commit_without_effect(commit, commit) == [Applied(), Applied()]


async def test_each_of_the_last_eight_commits_is_remembered(harness: StoreHarness) -> None:
    job = await harness.create_job(has_webhook=True)
    commits = []
    last_updates = (ImagesReady(attempt=1, cost=42_000), job_factory.make_images_stored(job))
    for update in (*make_six_updates(job), *last_updates):
        commits.append(job_factory.make_update_commit(job, update, harness.now))
        job = await harness.apply_commit(commits[-1])
    assert len(commits) == MAX_REMEMBERED_COMMITS
    assert await harness.commit_without_effect(*commits, *reversed(commits)) == [Applied()] * 2 * MAX_REMEMBERED_COMMITS


async def test_repeated_decision_is_applied_after_the_job_was_reclaimed(harness: StoreHarness) -> None:
    job = await harness.create_job()
    start_commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    await harness.apply_commit(start_commit)
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == {job.id}
    assert await harness.commit_without_effect(start_commit) == [Applied()]


async def test_repeated_commit_does_not_restore_a_lost_lease(harness: StoreHarness) -> None:
    job = await harness.create_job()
    start_commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    job = await harness.apply_commit(start_commit)
    assert await harness.store.release_job(job.id, 1, 100.0)
    assert await harness.store.commit(start_commit) == Applied()
    harness.advance_time(100.0)
    (claimed,) = await harness.store.claim_jobs()
    assert (claimed.job.id, claimed.fence) == (job.id, 2)


async def test_concurrent_repetitions_of_a_commit_apply_it_once(harness: StoreHarness) -> None:
    commit = make_full_commit(harness)
    assert await asyncio.gather(*(harness.store.commit(commit) for _ in range(20))) == [Applied()] * 20
    job = commit.job
    start_commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    assert await asyncio.gather(*(harness.store.commit(start_commit) for _ in range(20))) == [Applied()] * 20
    assert await harness.store.load_job(job.id) == start_commit.job
    assert [milestone.number for milestone in await harness.store.list_milestones(job.id)] == [1, 2]


async def test_second_equal_update_of_a_version_is_version_conflict(
    harness: StoreHarness,
) -> None:
    """Two replicas receive the same callback at different moments: one of them must load the job again."""
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    first = job_factory.make_update_commit(job, CallbackReceived(attempt=1), harness.now)
    second = job_factory.make_update_commit(job, CallbackReceived(attempt=1), harness.now + 0.001)
    await harness.apply_commit(first)
    assert await harness.commit_without_effect(second) == [VersionConflict()]


async def test_commit_is_applied_though_its_caller_is_cancelled(harness: StoreHarness) -> None:
    commit = make_full_commit(harness)
    pending = asyncio.create_task(harness.store.commit(commit))
    await asyncio.sleep(0)
    pending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pending
    store = await harness.reopen()
    assert await store.load_job(commit.job.id) == commit.job


async def test_document_removed_and_written_in_one_commit_exists(harness: StoreHarness) -> None:
    job = await harness.create_job(documents={"a": b"1"})
    commit = job_factory.make_update_commit(job, job_factory.make_attempt_started(job), harness.now)
    await harness.apply_commit(replace(commit, documents={"a": b"2"}, removed_documents=("a",)))
    assert await harness.store.load_documents(job.id, "a") == {"a": b"2"}
