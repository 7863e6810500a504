"""A confirmed job is bought, even if its worker here ends at that moment."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.engine.job_worker import JobWorker
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import JobWithdrawn
from gateway.store.base import Applied
from gateway.timeouts_and_intervals import JobTiming
from tests.store import job_factory
from tests.unit.engine.engine_replica import LEASE_SECONDS, EngineReplica, run_replica

TIMEOUT_SECONDS = 60.0
CONFIRMATION_TIMEOUT_SECONDS = JobTiming().confirmation_timeout_seconds


@asynccontextmanager
async def run_claiming_replica(folder: Path) -> AsyncIterator[tuple[EngineReplica, Job]]:
    """Yields a replica, and a job that was created elsewhere and whose lease has ended; the replica runs its worker."""
    async with run_replica(folder) as replica:
        job = await replica.create_job_in_store()
        replica.clock.now += LEASE_SECONDS + 1
        await replica.engine._claim_due_jobs()
        yield replica, job


def close_mailbox(worker: JobWorker) -> None:
    worker.job_context.mailbox.close()


def lose_lease(worker: JobWorker) -> None:
    worker.on_lease_lost()


EndWorker = Callable[[JobWorker], None]
EACH_END = pytest.mark.parametrize("end_worker", [close_mailbox, lose_lease])


async def confirm_while_worker_ends(replica: EngineReplica, job: Job, end_worker: EndWorker) -> Job | None:
    """Confirms the job, whose local worker ends meanwhile. Returns the job that the client receives."""
    confirming = asyncio.create_task(replica.engine.confirm_job(job.id))
    await asyncio.sleep(0)
    end_worker(replica.engine.workers[job.id])
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return await confirming


@EACH_END
def test_confirmation_is_saved_even_if_local_worker_ends(tmp_path: Path, end_worker: EndWorker) -> None:
    async def scenario() -> None:
        async with run_claiming_replica(tmp_path) as (replica, job):
            confirmed = await confirm_while_worker_ends(replica, job, end_worker)
            saved = await replica.store.load_job(job.id)
            assert confirmed == saved
            assert saved is not None
            assert saved.is_confirmed

    asyncio.run(scenario())


@EACH_END
def test_job_withdrawn_by_other_replica_is_shown_as_withdrawn(tmp_path: Path, end_worker: EndWorker) -> None:
    async def scenario() -> None:
        async with run_claiming_replica(tmp_path) as (replica, job):
            (worker,) = replica.engine.workers.values()
            replica.clock.now += CONFIRMATION_TIMEOUT_SECONDS
            withdrawal = job_factory.make_update_commit(job, JobWithdrawn(fence=worker.fence), replica.clock.now)
            assert await replica.store.commit(withdrawal) == Applied()
            confirmed = await confirm_while_worker_ends(replica, job, end_worker)
            assert confirmed is not None
            assert confirmed.is_withdrawn

    asyncio.run(scenario())


def test_confirmation_returns_when_worker_is_cancelled_while_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with run_claiming_replica(tmp_path) as (replica, job):
            saving, commit = asyncio.Event(), replica.store.commit

            async def hang(*_: object) -> None:
                saving.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(replica.store, "commit", hang)
            confirming = asyncio.create_task(replica.engine.confirm_job(job.id))
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await saving.wait()
                monkeypatch.setattr(replica.store, "commit", commit)
                (worker_task,) = replica.engine._worker_tasks
                worker_task.cancel()
                confirmed = await confirming
            assert confirmed is not None
            assert confirmed.is_confirmed

    asyncio.run(scenario())
