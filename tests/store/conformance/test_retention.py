"""What is forgotten, and when: jobs by their settling, money by the day it belongs to, open jobs never."""

from gateway.jobs.facts import CancelAsked
from gateway.store.base import Page, Retention
from gateway.store.books import Balance
from tests.store.orders import DAY, MONTH, PRICE
from tests.store.worlds import World

ONE_DAY = 86_400.0
KEPT = Retention()


def test_the_usual_times_are_a_week_a_quarter_and_a_year() -> None:
    assert (KEPT.jobs, KEPT.ledger, KEPT.totals) == (7 * ONE_DAY, 90 * ONE_DAY, 396 * ONE_DAY)


async def swept(world: World) -> int:
    """As whoever watches over retention does it; how many jobs are gone."""
    outdated = await world.store.outdated()
    for job in outdated:
        await world.store.forget(job)
        await world.store.forget(job)
    assert await world.store.outdated() == ()
    await world.store.sweep()
    return len(outdated)


async def test_nothing_is_forgotten_of_a_new_store(world: World) -> None:
    assert await swept(world) == 0


async def test_a_settled_job_is_kept_for_a_week_with_all_that_belongs_to_it(world: World) -> None:
    job = await world.bought(documents={"request": b"{}"})
    world.passes(7 * ONE_DAY - 1)
    assert await swept(world) == 0
    assert await world.store.load(job.id) == job
    assert await world.store.documents(job.id, "request") == {"request": b"{}"}
    assert len(await world.store.milestones(job.id)) == 4
    assert await world.store.list("acme") == Page((job,), None)


async def test_after_that_nothing_of_it_is_left_but_its_money(world: World) -> None:
    job = await world.bought(documents={"request": b"{}"})
    world.passes(7 * ONE_DAY + 1)
    assert await swept(world) == 1
    assert await world.store.load(job.id) is None
    assert await world.store.documents(job.id, "request") == {}
    assert await world.store.milestones(job.id) == ()
    assert await world.store.list("acme") == Page((), None)
    assert (await world.store.budget("acme", DAY))[DAY].spent == PRICE
    assert [entry.job for entry in await world.store.ledger(DAY)] == [job.id]


async def test_a_job_counts_from_its_settling_not_from_its_acceptance(world: World) -> None:
    job = await world.accepted()
    world.passes(6 * ONE_DAY)
    job = await world.happens(job, CancelAsked())
    world.passes(6 * ONE_DAY)
    await swept(world)
    assert await world.store.load(job.id) == job


async def test_an_open_job_is_never_forgotten(world: World) -> None:
    job = await world.accepted(documents={"request": b"{}"})
    world.passes(400 * ONE_DAY)
    assert await swept(world) == 0
    assert await world.store.load(job.id) == job
    assert await world.store.documents(job.id, "request") == {"request": b"{}"}
    assert await world.claimable() == {job.id}


async def test_pages_close_up_over_jobs_that_are_forgotten(world: World) -> None:
    for _ in range(3):
        await world.bought()
    world.passes(4 * ONE_DAY)
    kept = [await world.bought()]
    world.passes(1.0)
    kept.insert(0, await world.bought())
    world.passes(4 * ONE_DAY)
    await swept(world)
    page = await world.store.list("acme", 1)
    rest = await world.store.list("acme", 5, page.more)
    assert [*page.jobs, *rest.jobs] == kept
    assert rest.more is None


async def test_the_ledger_is_kept_for_a_quarter_after_its_day_and_totals_for_a_year(world: World) -> None:
    await world.bought()
    world.passes(89 * ONE_DAY)
    await swept(world)
    assert len(await world.store.ledger(DAY)) == 1
    world.passes(40 * ONE_DAY)
    await swept(world)
    assert await world.store.ledger(DAY) == ()
    assert [total.amount for total in await world.store.usage(DAY, DAY)] == [PRICE]
    assert (await world.store.budget("acme", MONTH))[MONTH] == Balance(spent=PRICE)
    world.passes(266 * ONE_DAY)
    await swept(world)
    assert [total.amount for total in await world.store.usage(DAY, DAY)] == [PRICE]
    world.passes(60 * ONE_DAY)
    await swept(world)
    assert await world.store.usage(DAY, DAY) == ()
    assert await world.store.budget("acme", DAY, MONTH) == {DAY: Balance(), MONTH: Balance()}


async def test_a_job_that_was_announced_and_never_accepted_is_named_after_its_time(world: World) -> None:
    await world.store.announce(announced := world.acceptance().job.id, 3_600.0)
    world.passes(3_599.0)
    assert await world.store.outdated() == ()
    world.passes(2.0)
    assert await world.store.outdated() == (announced,)
    assert await swept(world) == 1


async def test_an_announced_job_that_was_accepted_is_kept_like_any_other(world: World) -> None:
    commit = world.acceptance()
    await world.store.announce(commit.job.id, 3_600.0)
    job = await world.done(commit)
    world.passes(4_000.0)
    assert await world.store.outdated() == ()
    job = await world.happens(job, CancelAsked())
    world.passes(7 * ONE_DAY - 1)
    assert await swept(world) == 0
    assert await world.store.load(job.id) == job
    world.passes(2.0)
    assert await swept(world) == 1


async def test_an_announcement_outlasts_a_refusal_and_says_nothing_to_the_auditor(world: World) -> None:
    refused = world.acceptance(day=1)
    await world.store.announce(refused.job.id, 3_600.0)
    await world.unchanged_by(refused)
    for partition in world.store.partitions:
        assert (await world.store.audit(partition)).violations == 0
    assert await world.claimable() == set()
    world.passes(3_601.0)
    assert await swept(world) == 1


async def test_other_times_may_be_asked_for(world: World) -> None:
    store = await world.reopened(retention=Retention(jobs=60.0, ledger=2 * ONE_DAY, totals=3 * ONE_DAY))
    job = await world.bought()
    world.passes(61.0)
    await swept(world)
    assert await store.load(job.id) is None
    assert len(await store.ledger(DAY)) == 1
