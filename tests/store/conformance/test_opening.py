"""A store by itself: its name, its partitions, what it has to say, and its end."""

import asyncio

from gateway.store.base import Applied
from gateway.store.partitions import PARTITIONS, partition_of_job
from tests.store import orders
from tests.store.worlds import LEASE, World


async def test_a_store_is_called_what_it_was_told(world: World) -> None:
    assert world.store.owner == "one"


async def test_a_store_that_was_told_no_name_has_one_that_is_no_others(world: World) -> None:
    names = {(await world.reopened(owner=None)).owner for _ in range(3)}
    assert len(names) == 3
    assert "" not in names


async def test_where_everything_is_as_it_should_be_there_is_nothing_to_know(world: World) -> None:
    assert world.store.warnings == ()


async def test_a_jobs_id_leads_to_its_partition_wherever_its_team_lies(world: World) -> None:
    for team in orders.teams_of_different_partitions(PARTITIONS):
        job = await world.accepted(team)
        assert await world.store.load(job.id) == job
    world.passes(LEASE)
    claimed = [one.job.id for one in await world.store.claim(PARTITIONS + 1)]
    assert {partition_of_job(job) for job in claimed} == set(range(PARTITIONS))
    assert len(claimed) == PARTITIONS


async def test_closing_finishes_what_was_sent(world: World) -> None:
    commits = [world.acceptance() for _ in range(50)]
    sent = [asyncio.create_task(world.store.commit(commit)) for commit in commits]
    await asyncio.sleep(0)
    store = await world.reopened("one")
    assert await asyncio.gather(*sent) == [Applied()] * 50
    assert await orders.together(store.load(commit.job.id) for commit in commits) == [commit.job for commit in commits]


async def test_a_closed_store_may_be_closed_again(world: World) -> None:
    await world.store.close()
    await world.store.close()
