"""Not applicable to SQLite: whatever needs two processes. This is what it does instead."""

from pathlib import Path

import pytest

from gateway.store.base import Claimed, StoreUnfit
from gateway.store.sqlite import SqliteStore
from tests.store import orders
from tests.store.worlds import LEASE, World, sqlite_world


def test_a_second_store_on_the_same_file_is_refused_and_does_the_first_no_harm(tmp_path: Path) -> None:
    world = sqlite_world(tmp_path)

    async def story() -> None:
        job = await world.accepted()
        with pytest.raises(StoreUnfit, match="in use"):
            async with world.another("two"):
                pass
        assert await world.happens(job, orders.opened(job))

    try:
        world.run(story())
    finally:
        world.close()


async def test_after_a_restart_jobs_are_taken_over_when_their_leases_end(world: World) -> None:
    """Of every kind: where there is one process, this is how jobs change hands."""
    job = await world.accepted()
    store = await world.reopened("two")
    assert store.owner == "two"
    assert await store.claim() == ()
    assert await store.beat({job.id: 1}) in (frozenset(), {job.id})
    world.passes(LEASE)
    assert await store.claim() == (Claimed(job=job, fence=2, rescues=1),)


async def test_nothing_is_lost_by_closing_and_opening_again(world: World) -> None:
    job = await world.bought(webhook=True, idempotency=orders.key(), documents={"request": b"{}"})
    before = world.raw.dump()
    await world.reopened("one")
    assert world.raw.dump() == before
    assert await world.store.load(job.id) == job


def test_sqlite_needs_one_partition_only() -> None:
    assert len(SqliteStore.partitions) == 1
