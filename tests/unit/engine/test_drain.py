"""Jobs that a process claims while it drains are released at once for other replicas."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs.job import Job
from gateway.store.base import MAX_EARLY_CRASHES
from gateway.timeouts_and_intervals import ClaimTiming, Timing
from tests.harness.wait import wait_until_async
from tests.unit.engine.engine_replica import LEASE_SECONDS, EngineReplica, run_replica

TIMEOUT_SECONDS = 60.0


def delay_claim(
    claim: Callable[[], Awaitable[Any]], claim_started: asyncio.Event, may_return: asyncio.Event
) -> Callable[[], Any]:
    """Returns a claim that returns late."""

    async def claim_and_wait() -> Any:
        claimed = await claim()
        claim_started.set()
        await may_return.wait()
        return claimed

    return claim_and_wait


async def create_suspect_jobs(replica: EngineReplica, count: int = 1) -> list[Job]:
    """Creates jobs whose last workers crashed early."""
    jobs = [await replica.create_job_in_store() for _ in range(count)]
    for _ in range(MAX_EARLY_CRASHES):
        replica.clock.now += LEASE_SECONDS + 1
        await replica.claim_all_jobs()
    replica.clock.now += LEASE_SECONDS + 1
    return jobs


@pytest.mark.parametrize("is_suspect", [False, True])
def test_job_claimed_while_draining_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_suspect: bool
) -> None:
    async def scenario() -> None:
        async with run_replica(tmp_path) as replica:
            if is_suspect:
                (job,) = await create_suspect_jobs(replica)
            else:
                job = await replica.create_job_in_store()
                replica.clock.now += LEASE_SECONDS + 1
            claim_started, may_return = asyncio.Event(), asyncio.Event()
            claim = replica.store.claim_jobs
            monkeypatch.setattr(replica.store, "claim_jobs", delay_claim(claim, claim_started, may_return))
            replica.engine.start(replica.supervisor)
            await claim_started.wait()
            draining = asyncio.create_task(replica.engine.drain(0.0))
            await asyncio.sleep(0.05)
            may_return.set()
            await draining
            assert replica.engine._worker_tasks == set()
            monkeypatch.setattr(replica.store, "claim_jobs", claim)
            assert await replica.claim_all_jobs() == {job.id}

    asyncio.run(scenario())


def test_waiting_suspect_job_is_handed_over(tmp_path: Path) -> None:
    """A suspect that waits for the other claimed jobs has a lease, which must not expire first."""

    async def scenario() -> None:
        async with run_replica(tmp_path) as replica:
            (suspect,) = await create_suspect_jobs(replica)
            other_job = await replica.create_job_in_store()
            replica.clock.now += LEASE_SECONDS + 1
            replica.engine.start(replica.supervisor)
            await wait_until_async(lambda: other_job.id in replica.engine.workers, "the other job is started")
            await asyncio.sleep(0.1)
            await replica.engine.drain(0.0)
            assert await replica.claim_all_jobs() == {suspect.id, other_job.id}

    asyncio.run(scenario())


def test_running_suspect_job_is_handed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with run_replica(tmp_path) as replica:
            first, second = await create_suspect_jobs(replica, 2)
            replica.engine.start(replica.supervisor)
            await wait_until_async(lambda: replica.engine.workers, "a suspect runs")
            await replica.engine.drain(0.0)
            assert await replica.claim_all_jobs() == {first.id, second.id}

    asyncio.run(scenario())


def test_hanging_claim_does_not_block_shutdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(claims=ClaimTiming(last_claim_timeout_seconds=0.1))

    async def scenario() -> None:
        async with run_replica(tmp_path, timing) as replica:
            claim_started = asyncio.Event()
            monkeypatch.setattr(
                replica.store, "claim_jobs", delay_claim(replica.store.claim_jobs, claim_started, asyncio.Event())
            )
            replica.engine.start(replica.supervisor)
            await claim_started.wait()
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await replica.engine.drain(0.0)

    asyncio.run(scenario())
