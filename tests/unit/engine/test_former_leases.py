"""A worker that lost its lease and regained it drops the decisions that were made under the former lease."""

import asyncio
from pathlib import Path

from gateway.jobs.job_update_types import JobAbandoned
from gateway.store.base import FIRST_FENCE
from tests.unit.engine.engine_replica import LEASE_SECONDS, run_replica

TIMEOUT_SECONDS = 60.0


def test_decision_under_a_former_fence_is_dropped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with run_replica(tmp_path) as replica, asyncio.timeout(TIMEOUT_SECONDS):
            job = await replica.create_job_in_store()
            replica.clock.now += LEASE_SECONDS + 1
            await replica.engine._claim_due_jobs()
            worker = replica.engine.workers[job.id]
            mailbox = worker.job_context.mailbox
            assert not await mailbox.post(JobAbandoned(fence=worker.fence - 1))
            assert await replica.store.load_job(job.id) == job
            assert await mailbox.post(JobAbandoned(fence=worker.fence))
            abandoned = await replica.store.load_job(job.id)
            assert abandoned is not None
            assert abandoned.is_abandoned

    asyncio.run(scenario())


def test_worker_that_regains_its_lease_decides_under_the_new_fence(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with run_replica(tmp_path) as replica, asyncio.timeout(TIMEOUT_SECONDS):
            job = await replica.create_job_in_store()
            for _ in range(2):
                replica.clock.now += LEASE_SECONDS + 1
                await replica.engine._claim_due_jobs()
            worker = replica.engine.workers[job.id]
            assert worker.fence == FIRST_FENCE + 2
            assert await worker.job_context.mailbox.post(JobAbandoned(fence=worker.fence))

    asyncio.run(scenario())
