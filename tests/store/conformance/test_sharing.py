"""What replicas tell each other: signals that are kept for a minute, and changes that are heard of at once."""

import asyncio
import time

from gateway.jobs.facts import CallbackSeen
from gateway.store.base import Stale
from gateway.store.watching import Watch
from tests.store import orders
from tests.store.worlds import LEASE, World

HEARD_SECONDS = 1.0


async def settle(watch: Watch) -> None:
    """What was told before is listened to its end; false alarms are allowed."""
    while await watch.changed(0.05):
        pass


async def test_nothing_is_shared_at_first(world: World) -> None:
    assert await world.store.shared() == {}


async def test_each_names_last_value_is_shared(world: World) -> None:
    await world.store.share("health one", b"\x00 first")
    await world.store.share("health one", b"\xff second")
    await world.store.share("health: {two}", b"")
    assert await world.store.shared() == {"health one": b"\xff second", "health: {two}": b""}


async def test_it_is_kept_for_a_minute_from_when_it_was_last_told(world: World) -> None:
    await world.store.share("old", b"1")
    await world.store.share("renewed", b"1")
    world.passes(30.0)
    await world.store.share("renewed", b"2")
    world.passes(29.9)
    assert await world.store.shared() == {"old": b"1", "renewed": b"2"}
    world.passes(0.2)
    assert await world.store.shared() == {"renewed": b"2"}
    world.passes(30.0)
    assert await world.store.shared() == {}


async def test_replicas_see_what_any_of_them_told(replicas: World) -> None:
    async with replicas.another("two") as two:
        await replicas.store.share("from one", b"1")
        await two.share("from two", b"2")
        assert await two.shared() == await replicas.store.shared() == {"from one": b"1", "from two": b"2"}


async def test_a_change_is_heard_of(world: World) -> None:
    job = await world.accepted()
    with world.store.watch(job.id) as watch:
        await settle(watch)
        begun = time.monotonic()
        await world.happens(job, orders.opened(job))
        assert await watch.changed(HEARD_SECONDS)
        assert time.monotonic() - begun < HEARD_SECONDS


async def test_a_change_between_opening_the_watch_and_waiting_is_not_missed(world: World) -> None:
    job = await world.accepted()
    with world.store.watch(job.id) as watch:
        await world.happens(job, orders.opened(job))
        assert await watch.changed(HEARD_SECONDS)


async def test_a_change_while_somebody_waits_wakes_everybody_who_does(world: World) -> None:
    job = await world.accepted()
    with world.store.watch(job.id) as first, world.store.watch(job.id) as second:
        await orders.together([settle(first), settle(second)])
        waiting = asyncio.gather(first.changed(HEARD_SECONDS), second.changed(HEARD_SECONDS))
        await asyncio.sleep(0)
        await world.happens(job, orders.opened(job))
        assert await waiting == [True, True]


async def test_each_change_is_heard_of_anew(world: World) -> None:
    job = await world.accepted()
    with world.store.watch(job.id) as watch:
        for happening in (orders.opened(job), orders.ticket(), orders.delivered(job)):
            await settle(watch)
            job = await world.happens(job, happening)
            assert await watch.changed(HEARD_SECONDS)


async def test_nothing_is_heard_of_other_jobs_or_of_what_was_refused(world: World) -> None:
    job, other = await world.accepted(), await world.accepted()
    late = orders.changed(job, orders.opened(job, place=1), world.now)
    job = await world.happens(job, orders.opened(job))
    with world.store.watch(job.id) as watch:
        await settle(watch)
        await world.happens(other, orders.opened(other))
        assert await world.store.commit(late) == Stale()
        assert not await watch.changed(0.1)


async def test_a_watch_may_be_opened_on_what_is_not_there(world: World) -> None:
    with world.store.watch("nonsense") as watch:
        assert not await watch.changed(0.01)


async def test_a_change_made_by_another_replica_is_heard_within_a_second(replicas: World) -> None:
    async with replicas.another("two") as two:
        job = await replicas.accepted()
        with two.watch(job.id) as watch:
            for happening in (orders.opened(job), CallbackSeen(attempt=1), orders.ticket(), orders.delivered(job)):
                await settle(watch)
                begun = time.monotonic()
                job = await replicas.happens(job, happening)
                assert await watch.changed(HEARD_SECONDS)
                assert time.monotonic() - begun < HEARD_SECONDS


async def test_a_lease_taken_over_is_no_change_that_hides_the_next(replicas: World) -> None:
    async with replicas.another("two") as two:
        job = await replicas.accepted()
        with replicas.store.watch(job.id) as watch:
            replicas.passes(LEASE)
            (claimed,) = await two.claim()
            await settle(watch)
            await two.commit(orders.changed(claimed.job, orders.opened(job, fence=2), replicas.now))
            assert await watch.changed(HEARD_SECONDS)
