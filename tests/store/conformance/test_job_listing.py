"""Lists of a team's jobs, newest first and page by page, and of a job's milestones."""

import pytest

from gateway.jobs.job import Job
from gateway.store.base import JobPage
from tests.store import job_factory
from tests.store.store_harness import StoreHarness


async def create_jobs(harness: StoreHarness, count: int, team: str = "acme") -> list[Job]:
    """Creates jobs, and returns them newest first."""
    jobs = []
    for _ in range(count):
        jobs.append(await harness.create_job(team))
        harness.advance_time(0.25)
    return jobs[::-1]


async def test_team_without_jobs_has_an_empty_page(harness: StoreHarness) -> None:
    assert await harness.store.list_jobs("nobody") == JobPage((), None)


async def test_jobs_are_listed_newest_first(harness: StoreHarness) -> None:
    jobs = await create_jobs(harness, 4)
    assert await harness.store.list_jobs("acme") == JobPage(tuple(jobs), None)


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_have_no_gaps_or_repetitions(harness: StoreHarness, limit: int) -> None:
    jobs = await create_jobs(harness, 7)
    seen: list[Job] = []
    cursor = None
    while True:
        page = await harness.store.list_jobs("acme", limit, cursor)
        assert 0 < len(page.jobs) <= limit
        seen += page.jobs
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == jobs


async def test_default_page_has_twenty_jobs(harness: StoreHarness) -> None:
    jobs = await create_jobs(harness, 21)
    page = await harness.store.list_jobs("acme")
    assert list(page.jobs) == jobs[:20]
    assert await harness.store.list_jobs("acme", cursor=page.next_cursor) == JobPage((jobs[20],), None)


async def test_last_page_has_no_next_cursor(harness: StoreHarness) -> None:
    await create_jobs(harness, 4)
    page = await harness.store.list_jobs("acme", 2)
    assert page.next_cursor is not None
    assert (await harness.store.list_jobs("acme", 2, page.next_cursor)).next_cursor is None


async def test_pages_are_stable_while_new_jobs_arrive(harness: StoreHarness) -> None:
    jobs = await create_jobs(harness, 5)
    first = await harness.store.list_jobs("acme", 2)
    await create_jobs(harness, 3)
    second = await harness.store.list_jobs("acme", 2, first.next_cursor)
    third = await harness.store.list_jobs("acme", 2, second.next_cursor)
    assert [*first.jobs, *second.jobs, *third.jobs] == jobs


async def test_jobs_created_at_the_same_time_are_all_listed(harness: StoreHarness) -> None:
    created_ids = {(await harness.create_job()).id for _ in range(9)}
    seen: list[str] = []
    cursor = None
    while len(seen) < 9:
        page = await harness.store.list_jobs("acme", 2, cursor)
        seen += [job.id for job in page.jobs]
        cursor = page.next_cursor
    assert (set(seen), len(seen), cursor) == (created_ids, 9, None)


async def test_jobs_are_listed_in_their_current_state(harness: StoreHarness) -> None:
    first, second = await harness.create_job(), await harness.create_settled_job()
    page = await harness.store.list_jobs("acme")
    assert set(page.jobs) == {first, second}


async def test_cursor_of_another_team_shows_none_of_its_jobs(harness: StoreHarness) -> None:
    listed_team, other_team = job_factory.pick_teams_of_one_partition(2)
    listed_jobs = await create_jobs(harness, 2, listed_team)
    await create_jobs(harness, 4, other_team)
    assert await harness.store.list_jobs(listed_team) == JobPage(tuple(listed_jobs), None)
    foreign_cursor = (await harness.store.list_jobs(other_team, 2)).next_cursor
    assert set((await harness.store.list_jobs(listed_team, 20, foreign_cursor)).jobs) <= set(listed_jobs)


@pytest.mark.parametrize(
    "cursor",
    ["", "nonsense", "-1", "1", "(", "+", "[", "2040-05-10", "a:b", "\x00", "9" * 400, "é", "; DROP TABLE job"],
)
async def test_invalid_cursor_is_rejected(harness: StoreHarness, cursor: str) -> None:
    await create_jobs(harness, 3)
    with pytest.raises(ValueError, match=r"."):
        await harness.store.list_jobs("acme", 2, cursor)


async def test_milestones_are_listed_after_any_number(harness: StoreHarness) -> None:
    job = await harness.create_settled_job(n=2)
    milestones = [
        (milestone.number, milestone.name, milestone.image) for milestone in await harness.store.list_milestones(job.id)
    ]
    assert milestones == [
        (1, "queued", None),
        (2, "in_progress", None),
        (3, "image", 0),
        (4, "image", 1),
        (5, "completed", None),
    ]
    for after in range(7):
        numbers = [milestone.number for milestone in await harness.store.list_milestones(job.id, after)]
        assert numbers == list(range(after + 1, 6))


async def test_milestones_have_their_time(harness: StoreHarness) -> None:
    created_at = harness.now
    job = await harness.create_job()
    harness.advance_time(3.5)
    await harness.apply_updates(job, job_factory.make_attempt_started(job))
    assert [milestone.reached_at for milestone in await harness.store.list_milestones(job.id)] == [
        created_at,
        created_at + 3.5,
    ]
