"""The auditor: finds nothing where nothing is wrong, and every kind of damage; mends it once, or only tells."""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from gateway.jobs.facts import AttemptGivenUp, CancelAsked, OrderFailed, PicturesDelivered
from gateway.jobs.job import Job
from gateway.store.auditing import Drift, Findings
from gateway.store.base import FIRST_FENCE, StoreUnavailable
from gateway.store.partitions import partition_of
from providers.faults import FaultKind
from tests.store import orders
from tests.store.orders import CEILING, DAY, MONTH, PRICE
from tests.store.worlds import LEASE, World

Story = Callable[[World], Coroutine[Any, Any, Job]]
NOTHING = Findings()


async def audited(world: World, repair: bool = True, team: str = "acme") -> Findings:
    """Of the partition that a team's jobs lie in."""
    partition = partition_of(team) if partition_of(team) in world.store.partitions else world.store.partitions[0]
    return await world.store.audit(partition, repair)


async def accepted(world: World) -> Job:
    return await world.accepted()


async def ordered(world: World) -> Job:
    job = await world.accepted(n=2)
    return await world.happens(job, orders.opened(job), orders.ticket())


async def settled(world: World) -> Job:
    return await world.bought(webhook=True)


async def cancelled(world: World) -> Job:
    return await world.happens(await world.accepted(), CancelAsked())


async def partly_delivered(world: World) -> Job:
    job = await world.accepted(n=3)
    return await world.happens(job, orders.opened(job), PicturesDelivered(attempt=1, images=(0,), made=3))


async def suspected(world: World) -> Job:
    job = await ordered(world)
    return await world.happens(job, AttemptGivenUp(fence=FIRST_FENCE, attempt=1, kind=FaultKind.OVERDUE))


async def corrected(world: World) -> Job:
    return await world.happens(await suspected(world), OrderFailed(attempt=1, kind=FaultKind.FAILED))


async def failed_over(world: World) -> Job:
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job), OrderFailed(attempt=1, kind=FaultKind.UNAVAILABLE))
    return await world.happens(job, orders.opened(job, place=1))


async def given_away(world: World) -> Job:
    job = await ordered(world)
    assert await world.store.snooze(job.id, FIRST_FENCE, 5.0)
    return job


async def taken_over(world: World) -> Job:
    job = await ordered(world)
    world.passes(LEASE)
    assert job.id in await world.claimable()
    return job


STORIES: list[Story] = [
    *(accepted, ordered, settled, cancelled, partly_delivered),
    *(suspected, corrected, failed_over, given_away, taken_over),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_after_every_story_nothing_is_wrong(world: World, story: Story) -> None:
    await story(world)
    assert await audited(world) == NOTHING


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
async def test_nothing_is_wrong_when_midnight_or_a_months_end_has_passed(world: World, story: Story) -> None:
    world.clock.now = orders.at("2040-05-31T23:59:50")
    await story(world)
    world.passes(20.0)
    await story(world)
    assert await audited(world) == NOTHING


async def test_an_audit_changes_nothing_where_nothing_is_wrong(world: World) -> None:
    for story in STORIES:
        await story(world)
    before = world.raw.dump()
    assert await audited(world) == NOTHING
    assert world.raw.dump() == before


async def test_all_partitions_are_clean_when_teams_lie_all_over(world: World) -> None:
    for team in orders.teams_of_different_partitions(12):
        await world.bought(team)
        await world.accepted(team)
    assert {await world.store.audit(partition) for partition in world.store.partitions} == {NOTHING}


async def found(world: World) -> Findings:
    """Told first, with nothing mended; then mended; then there is nothing left."""
    damaged = world.raw.dump()
    told = await audited(world, repair=False)
    assert world.raw.dump() == damaged
    assert await audited(world) == told
    assert await audited(world) == NOTHING
    return told


async def test_a_job_that_nobody_would_look_at_is_found_and_looked_at_again(world: World) -> None:
    job = await world.accepted()
    world.raw.lose_due(job.id)
    assert await found(world) == Findings(not_due=(job.id,))
    world.passes(LEASE)
    assert await world.claimable() == {job.id}


async def test_an_open_job_that_is_not_listed_as_one_is_found(world: World) -> None:
    job = await world.accepted()
    world.raw.lose_open(job.id)
    assert await found(world) == Findings(not_open=(job.id,))


@pytest.mark.parametrize("which", ["make_due", "make_open"])
async def test_a_settled_job_that_is_still_listed_is_let_go(world: World, which: str) -> None:
    job = await world.bought()
    getattr(world.raw, which)(job.id)
    assert await found(world) == Findings(settled=(job.id,))
    world.passes(10 * LEASE)
    assert await world.claimable() == set()


@pytest.mark.parametrize(("held", "spent"), [(1, 0), (-CEILING, 0), (0, 1), (0, -PRICE), (10**12, -(10**12))])
@pytest.mark.parametrize("window", [DAY, MONTH])
async def test_a_budget_that_was_changed_is_set_right(world: World, window: str, held: int, spent: int) -> None:
    await world.accepted()
    await world.bought()
    before = await world.store.budget("acme", DAY, MONTH)
    world.raw.change_balance("acme", window, held, spent)
    assert await found(world) == Findings(balances=(Drift(team="acme", window=window, held=-held, spent=-spent),))
    assert await world.store.budget("acme", DAY, MONTH) == before


async def test_a_hold_that_outlived_its_jobs_is_given_back(world: World) -> None:
    """With no job open any more: what is derived from nothing is nothing."""
    await world.bought()
    world.raw.change_balance("acme", DAY, held=7)
    assert await found(world) == Findings(balances=(Drift(team="acme", window=DAY, held=-7, spent=0),))


async def test_a_ledger_line_of_an_open_job_that_is_gone_is_written_anew(world: World) -> None:
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job), OrderFailed(attempt=1, kind=FaultKind.EMPTY))
    assert not job.is_settled
    before = [(entry.line, entry.amount, entry.images) for entry in await world.store.ledger(DAY)]
    assert world.raw.lose_entries(job.id) == len(before) == 1
    told = await found(world)
    assert [(entry.job, entry.line, entry.amount, entry.images) for entry in told.entries] == [(job.id, *before[0])]
    assert told.violations == 1
    assert [(entry.line, entry.amount, entry.images) for entry in await world.store.ledger(DAY)] == before


async def test_a_ledger_line_of_a_settled_job_that_is_gone_is_seen_in_what_it_was_added_to(world: World) -> None:
    job = await world.bought()
    assert world.raw.lose_entries(job.id) == 1
    told = await found(world)
    assert [(total.amount, total.images) for total in told.totals] == [(-PRICE, -1)]
    assert {drift.window: drift.spent for drift in told.balances} == {DAY: -PRICE, MONTH: -PRICE}


async def test_totals_that_were_changed_are_set_right(world: World) -> None:
    await world.bought()
    before = await world.store.usage(DAY, DAY)
    world.raw.change_totals(DAY, 123)
    told = await found(world)
    assert [(total.amount, total.images) for total in told.totals] == [(-123, 0)]
    assert told.violations == 1
    assert await world.store.usage(DAY, DAY) == before


async def test_a_job_that_is_gone_is_told_as_lost_and_no_longer_looked_for(world: World) -> None:
    job = await world.accepted()
    world.raw.lose_job(job.id)
    told = await audited(world, repair=False)
    assert told.lost == (job.id,)
    assert {drift.window: drift.held for drift in told.balances} == {DAY: -CEILING, MONTH: -CEILING}
    assert await found(world) == told
    world.passes(LEASE)
    assert await world.claimable() == set()


async def test_all_damages_at_once_are_found_and_mended_at_once(world: World) -> None:
    undue, unlisted, gone = await world.accepted(), await ordered(world), await world.accepted()
    done = await world.bought()
    world.raw.lose_due(undue.id)
    world.raw.lose_open(unlisted.id)
    world.raw.lose_job(gone.id)
    world.raw.make_due(done.id)
    world.raw.change_balance("acme", DAY, held=3, spent=4)
    world.raw.change_totals(DAY, 5)
    told = await found(world)
    assert (told.not_due, told.not_open, told.lost, told.settled) == (
        (undue.id,),
        (unlisted.id,),
        (gone.id,),
        (done.id,),
    )
    assert len(told.totals) == 1
    assert (await world.store.budget("acme", DAY))[DAY].held == 3 * CEILING


async def test_damage_of_another_partition_is_not_touched(replicas: World) -> None:
    near, far = orders.teams_of_different_partitions(2)
    await replicas.accepted(near)
    job = await replicas.accepted(far)
    replicas.raw.lose_due(job.id)
    damaged = replicas.raw.dump()
    assert await audited(replicas, team=near) == NOTHING
    assert replicas.raw.dump() == damaged
    assert (await audited(replicas, team=far)).not_due == (job.id,)


async def test_work_goes_on_while_the_auditor_mends(world: World) -> None:
    """Corrections are added, never set: what changes in between is not lost."""
    job = await world.accepted()
    world.raw.change_balance("acme", DAY, held=1000)

    async def busy() -> None:
        for _ in range(20):
            await world.bought()

    async def auditing() -> None:
        for _ in range(10):
            # Where jobs come in faster than they can be looked at together, it gives up until later.
            with suppress(StoreUnavailable):
                await audited(world)

    await orders.together([busy(), auditing(), auditing(), busy()])
    await audited(world)
    assert await audited(world) == NOTHING
    balance = (await world.store.budget("acme", DAY))[DAY]
    assert (balance.held, balance.spent) == (CEILING, 40 * PRICE)
    assert await world.store.load(job.id) == job
