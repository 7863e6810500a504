"""Lists of a team's jobs, newest first and page by page, and of a job's milestones."""

import pytest

from gateway.jobs.job import Job, JobState
from gateway.store import job_pages
from gateway.store.job_pages import JobFilter, JobPage, JobPosition
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
    position: JobPosition | None = None
    while True:
        page = await harness.store.list_jobs("acme", limit, position)
        assert 0 < len(page.jobs) <= limit
        seen += page.jobs
        position = page.next_position
        if position is None:
            break
    assert seen == jobs


async def test_default_page_has_twenty_jobs(harness: StoreHarness) -> None:
    jobs = await create_jobs(harness, 21)
    page = await harness.store.list_jobs("acme")
    assert list(page.jobs) == jobs[:20]
    assert await harness.store.list_jobs("acme", after=page.next_position) == JobPage((jobs[20],), None)


async def test_last_page_has_no_next_position(harness: StoreHarness) -> None:
    await create_jobs(harness, 4)
    page = await harness.store.list_jobs("acme", 2)
    assert page.next_position is not None
    assert (await harness.store.list_jobs("acme", 2, page.next_position)).next_position is None


async def test_pages_are_stable_while_new_jobs_arrive(harness: StoreHarness) -> None:
    jobs = await create_jobs(harness, 5)
    first = await harness.store.list_jobs("acme", 2)
    await create_jobs(harness, 3)
    second = await harness.store.list_jobs("acme", 2, first.next_position)
    third = await harness.store.list_jobs("acme", 2, second.next_position)
    assert [*first.jobs, *second.jobs, *third.jobs] == jobs


async def test_jobs_created_at_the_same_time_are_all_listed(harness: StoreHarness) -> None:
    created_ids = {(await harness.create_job()).id for _ in range(9)}
    seen: list[str] = []
    position: JobPosition | None = None
    while len(seen) < 9:
        page = await harness.store.list_jobs("acme", 2, position)
        seen += [job.id for job in page.jobs]
        position = page.next_position
    assert (set(seen), len(seen), position) == (created_ids, 9, None)


async def test_jobs_are_listed_in_their_current_state(harness: StoreHarness) -> None:
    first, second = await harness.create_job(), await harness.create_settled_job()
    page = await harness.store.list_jobs("acme")
    assert set(page.jobs) == {first, second}


async def test_position_of_another_team_shows_none_of_its_jobs(harness: StoreHarness) -> None:
    listed_team, other_team = job_factory.pick_teams_of_one_partition(2)
    listed_jobs = await create_jobs(harness, 2, listed_team)
    await create_jobs(harness, 4, other_team)
    assert await harness.store.list_jobs(listed_team) == JobPage(tuple(listed_jobs), None)
    foreign_position = (await harness.store.list_jobs(other_team, 2)).next_position
    assert set((await harness.store.list_jobs(listed_team, 20, foreign_position)).jobs) <= set(listed_jobs)


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


async def test_filters_select_jobs(harness: StoreHarness) -> None:
    spring = await harness.create_job(key_id="one", labels=("spring", "web"))
    harness.advance_time(10)
    settled = await harness.create_settled_job(model="other", labels=("spring",))
    expected: list[tuple[JobFilter, list[Job]]] = [
        (JobFilter(), [settled, spring]),
        (JobFilter(states=frozenset({JobState.QUEUED})), [spring]),
        (JobFilter(states=frozenset({JobState.QUEUED, JobState.COMPLETED})), [settled, spring]),
        (JobFilter(model="other"), [settled]),
        (JobFilter(key_id="one"), [spring]),
        (JobFilter(key_id="two"), []),
        (JobFilter(created_since=settled.created_at), [settled]),
        (JobFilter(created_since=settled.created_at + 0.5), []),
        (JobFilter(labels=frozenset({"spring"})), [settled, spring]),
        (JobFilter(labels=frozenset({"spring", "web"})), [spring]),
        (JobFilter(labels=frozenset({"spring", "web"}), model="other"), []),
    ]
    for job_filter, jobs in expected:
        assert await harness.store.list_jobs("acme", job_filter=job_filter) == JobPage(tuple(jobs), None)


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_filtered_pages_have_no_gaps_or_repetitions(harness: StoreHarness, limit: int) -> None:
    jobs = []
    for number in range(9):
        jobs.append(await harness.create_job(labels=("third",) if number % 3 == 0 else ()))
        harness.advance_time(0.25)
    seen: list[Job] = []
    page = JobPage((), None)
    while not seen or page.next_position:
        job_filter = JobFilter(labels=frozenset({"third"}))
        page = await harness.store.list_jobs("acme", limit, page.next_position, job_filter)
        seen += page.jobs
    assert seen == [jobs[6], jobs[3], jobs[0]]


async def test_filtered_page_examines_a_limited_number_of_jobs(
    harness: StoreHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_pages, "MAX_SCANNED_JOBS", 4)
    monkeypatch.setattr(job_pages, "BATCH_JOBS", 3)
    wanted = await harness.create_job(labels=("wanted",))
    harness.advance_time(0.25)
    others = await create_jobs(harness, 7)
    job_filter = JobFilter(labels=frozenset({"wanted"}))
    first = await harness.store.list_jobs("acme", 5, None, job_filter)
    assert first == JobPage((), JobPosition(others[3].created_at, others[3].id))
    second = await harness.store.list_jobs("acme", 5, first.next_position, job_filter)
    assert second == JobPage((wanted,), None)
