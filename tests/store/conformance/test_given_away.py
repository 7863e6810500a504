"""A job that was given away is nobody's: whoever had it can neither keep it nor move it."""

from tests.store.worlds import World


async def test_what_was_given_away_is_not_renewed_by_a_beat_that_was_on_its_way(world: World) -> None:
    job = await world.accepted()
    assert await world.store.snooze(job.id, 1, 1.0)
    assert await world.store.beat({job.id: 1}) == {job.id}
    world.passes(1.0)
    assert await world.claimable() == {job.id}


async def test_what_was_given_away_cannot_be_given_away_again(world: World) -> None:
    job = await world.accepted()
    assert await world.store.snooze(job.id, 1, 1.0)
    assert not await world.store.snooze(job.id, 1, 1000.0)
    world.passes(1.0)
    assert await world.claimable() == {job.id}
