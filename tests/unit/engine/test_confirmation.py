"""Whether a job that is promised is bought, also if its worker here ends at that moment."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.engine.owner import Owner
from gateway.jobs.facts import JobWithdrawn
from gateway.jobs.job import CONFIRM_SECONDS
from gateway.store.base import Applied
from tests.store import orders
from tests.unit.engine.replica import LEASE, replica

SECONDS = 5.0


def has_closed(owner: Owner) -> None:
    owner.desk.mailbox.refuse_all()


def has_lost_the_job(owner: Owner) -> None:
    owner.lose()


@pytest.mark.parametrize("ending", [has_closed, has_lost_the_job])
def test_confirmation_is_saved_although_the_worker_here_ends(tmp_path: Path, ending: Callable[[Owner], None]) -> None:
    async def story() -> None:
        async with replica(tmp_path) as one:
            job = await one.accepted()
            one.clock.now += LEASE + 1
            await one.engine._rescue()
            confirming = asyncio.create_task(one.engine.confirm(job.id))
            await asyncio.sleep(0)
            ending(one.engine.owners[job.id])
            async with asyncio.timeout(SECONDS):
                confirmed = await confirming
            saved = await one.store.load(job.id)
            assert confirmed == saved
            assert saved is not None
            assert saved.is_confirmed

    asyncio.run(story())


@pytest.mark.parametrize("ending", [has_closed, has_lost_the_job])
def test_job_withdrawn_elsewhere_is_shown_as_withdrawn(tmp_path: Path, ending: Callable[[Owner], None]) -> None:
    async def story() -> None:
        async with replica(tmp_path) as one:
            job = await one.accepted()
            one.clock.now += LEASE + 1
            await one.engine._rescue()
            (claimed,) = one.engine.owners.values()
            one.clock.now += CONFIRM_SECONDS
            withdrawing = orders.changed(job, JobWithdrawn(fence=claimed.fence), one.clock.now)
            assert await one.store.commit(withdrawing) == Applied()
            confirming = asyncio.create_task(one.engine.confirm(job.id))
            await asyncio.sleep(0)
            ending(claimed)
            async with asyncio.timeout(SECONDS):
                confirmed = await confirming
            assert confirmed is not None
            assert confirmed.withdrawn

    asyncio.run(story())


def test_confirmation_is_not_awaited_for_ever_where_the_worker_is_stopped_while_it_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with replica(tmp_path) as one:
            job = await one.accepted()
            one.clock.now += LEASE + 1
            await one.engine._rescue()
            saving, commit = asyncio.Event(), one.store.commit

            async def hang(*_: object) -> None:
                saving.set()
                await asyncio.Event().wait()

            monkeypatch.setattr(one.store, "commit", hang)
            confirming = asyncio.create_task(one.engine.confirm(job.id))
            async with asyncio.timeout(SECONDS):
                await saving.wait()
                monkeypatch.setattr(one.store, "commit", commit)
                (working,) = one.engine._running
                working.cancel()
                confirmed = await confirming
            assert confirmed is not None
            assert confirmed.is_confirmed

    asyncio.run(story())
