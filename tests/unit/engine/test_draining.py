"""What is claimed while a process ends belongs to whoever claims it next, at once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.engine import engine
from gateway.jobs.job import Job
from gateway.store.base import EARLY_DEATHS
from tests.unit.engine.replica import LEASE, Replica, replica

SECONDS = 5.0


async def until(holds: Callable[[], Any]) -> None:
    for _ in range(int(SECONDS * 100)):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("never")


def held_up(claim: Callable[[], Awaitable[Any]], held: asyncio.Event, going: asyncio.Event) -> Callable[[], Any]:
    """A claim whose answer is late."""

    async def claim_late() -> Any:
        claimed = await claim()
        held.set()
        await going.wait()
        return claimed

    return claim_late


async def suspects(one: Replica, number: int = 1) -> list[Job]:
    """Whose last owners died early."""
    jobs = [await one.accepted() for _ in range(number)]
    for _ in range(EARLY_DEATHS):
        one.clock.now += LEASE + 1
        await one.claimable()
    one.clock.now += LEASE + 1
    return jobs


@pytest.mark.parametrize("is_suspect", [False, True])
def test_job_claimed_while_draining_is_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_suspect: bool
) -> None:
    async def story() -> None:
        async with replica(tmp_path) as one:
            if is_suspect:
                (job,) = await suspects(one)
            else:
                job = await one.accepted()
                one.clock.now += LEASE + 1
            held, going = asyncio.Event(), asyncio.Event()
            claim = one.store.claim
            monkeypatch.setattr(one.store, "claim", held_up(claim, held, going))
            one.engine.start(one.supervisor)
            await held.wait()
            draining = asyncio.create_task(one.engine.drain(0.0))
            await asyncio.sleep(0.05)
            going.set()
            await draining
            assert one.engine._running == set()
            monkeypatch.setattr(one.store, "claim", claim)
            assert await one.claimable() == {job.id}

    asyncio.run(story())


def test_suspect_that_awaits_its_trial_is_handed_over(tmp_path: Path) -> None:
    """Its own lease is long, and so was its claim that began with the others."""

    async def story() -> None:
        async with replica(tmp_path) as one:
            (suspect,) = await suspects(one)
            other = await one.accepted()
            one.clock.now += LEASE + 1
            one.engine.start(one.supervisor)
            await until(lambda: other.id in one.engine.owners)
            await asyncio.sleep(0.1)
            await one.engine.drain(0.0)
            assert await one.claimable() == {suspect.id, other.id}

    asyncio.run(story())


def test_suspect_that_is_being_tried_out_is_handed_over(tmp_path: Path) -> None:
    async def story() -> None:
        async with replica(tmp_path) as one:
            first, second = await suspects(one, 2)
            one.engine.start(one.supervisor)
            await until(lambda: one.engine.owners)
            await one.engine.drain(0.0)
            assert await one.claimable() == {first.id, second.id}

    asyncio.run(story())


def test_claim_that_is_never_answered_does_not_keep_a_process_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LAST_CLAIM_SECONDS", 0.1)

    async def story() -> None:
        async with replica(tmp_path) as one:
            held = asyncio.Event()
            monkeypatch.setattr(one.store, "claim", held_up(one.store.claim, held, asyncio.Event()))
            one.engine.start(one.supervisor)
            await held.wait()
            async with asyncio.timeout(SECONDS):
                await one.engine.drain(0.0)

    asyncio.run(story())
