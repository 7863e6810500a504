"""What a team sees of its jobs: newest first, page by page; and what happened to one, from any point on."""

import pytest

from gateway.jobs.job import Job
from gateway.store.base import Page
from tests.store import orders
from tests.store.worlds import World


async def some_jobs(world: World, number: int, team: str = "acme") -> list[Job]:
    """Newest first."""
    jobs = []
    for _ in range(number):
        jobs.append(await world.accepted(team))
        world.passes(0.25)
    return jobs[::-1]


async def test_a_team_without_jobs_has_an_empty_page(world: World) -> None:
    assert await world.store.list("nobody") == Page((), None)


async def test_jobs_are_listed_newest_first(world: World) -> None:
    jobs = await some_jobs(world, 4)
    assert await world.store.list("acme") == Page(tuple(jobs), None)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_follow_one_another_without_gap_or_repetition(world: World, limit: int) -> None:
    jobs = await some_jobs(world, 7)
    seen: list[Job] = []
    after = None
    while True:
        page = await world.store.list("acme", limit, after)
        assert 0 < len(page.jobs) <= limit
        seen += page.jobs
        after = page.more
        if after is None:
            break
    assert seen == jobs


async def test_a_page_has_twenty_jobs_unless_another_number_is_asked_for(world: World) -> None:
    jobs = await some_jobs(world, 21)
    page = await world.store.list("acme")
    assert list(page.jobs) == jobs[:20]
    assert await world.store.list("acme", after=page.more) == Page((jobs[20],), None)


async def test_the_last_page_knows_that_it_is(world: World) -> None:
    await some_jobs(world, 4)
    page = await world.store.list("acme", 2)
    assert page.more is not None
    assert (await world.store.list("acme", 2, page.more)).more is None


async def test_pages_stay_where_they_were_while_new_jobs_arrive(world: World) -> None:
    jobs = await some_jobs(world, 5)
    first = await world.store.list("acme", 2)
    await some_jobs(world, 3)
    second = await world.store.list("acme", 2, first.more)
    third = await world.store.list("acme", 2, second.more)
    assert [*first.jobs, *second.jobs, *third.jobs] == jobs


async def test_jobs_of_the_same_moment_are_all_listed(world: World) -> None:
    made = {(await world.accepted()).id for _ in range(9)}
    seen: list[str] = []
    after = None
    while len(seen) < 9:
        page = await world.store.list("acme", 2, after)
        seen += [job.id for job in page.jobs]
        after = page.more
    assert (set(seen), len(seen), after) == (made, 9, None)


async def test_a_job_is_listed_as_it_is_now(world: World) -> None:
    first, second = await world.accepted(), await world.bought()
    page = await world.store.list("acme")
    assert set(page.jobs) == {first, second}


async def test_other_teams_jobs_are_never_seen_not_even_with_their_cursors(world: World) -> None:
    mine, theirs = orders.teams_of_one_partition(2)
    own = await some_jobs(world, 2, mine)
    await some_jobs(world, 4, theirs)
    assert await world.store.list(mine) == Page(tuple(own), None)
    foreign = (await world.store.list(theirs, 2)).more
    assert set((await world.store.list(mine, 20, foreign)).jobs) <= set(own)


@pytest.mark.parametrize(
    "cursor",
    ["", "nonsense", "-1", "1", "(", "+", "[", "2040-05-10", "a:b", "\x00", "9" * 400, "é", "; DROP TABLE job"],
)
async def test_a_cursor_that_is_none_is_refused(world: World, cursor: str) -> None:
    await some_jobs(world, 3)
    with pytest.raises(ValueError, match=r"."):
        await world.store.list("acme", 2, cursor)


async def test_milestones_are_read_from_any_number_on(world: World) -> None:
    job = await world.bought(n=2)
    told = [(one.number, one.name, one.image) for one in await world.store.milestones(job.id)]
    assert told == [
        (1, "queued", None),
        (2, "in_progress", None),
        (3, "image", 0),
        (4, "image", 1),
        (5, "completed", None),
    ]
    for after in range(7):
        numbers = [one.number for one in await world.store.milestones(job.id, after)]
        assert numbers == list(range(after + 1, 6))


async def test_milestones_know_their_time(world: World) -> None:
    accepted = world.now
    job = await world.accepted()
    world.passes(3.5)
    await world.happens(job, orders.opened(job))
    assert [one.at for one in await world.store.milestones(job.id)] == [accepted, accepted + 3.5]
