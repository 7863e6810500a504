"""What a commit is refused for. Whatever it is, nothing at all is written."""

import asyncio

import pytest

from gateway.jobs.facts import AnswerLost, CallbackSeen, CancelAsked
from gateway.store.base import Applied, Fenced, KeyReused, Known, OverBudget, Stale
from gateway.store.partitions import new_job_id
from tests.store import orders
from tests.store.orders import CEILING, DAY, MONTH, PRICE
from tests.store.worlds import LEASE, World


async def test_a_change_of_what_the_job_no_longer_is_is_stale(world: World) -> None:
    job = await world.accepted(documents={"request": b"{}"})
    opening = orders.changed(job, orders.opened(job), world.now)
    other = orders.changed(job, orders.opened(job, place=1), world.now)
    await world.done(opening)
    assert await world.unchanged_by(other) == [Stale()]


async def test_a_change_of_a_job_that_is_not_there_is_stale(world: World) -> None:
    job = world.acceptance().job
    assert await world.unchanged_by(orders.changed(job, orders.opened(job), world.now)) == [Stale()]


async def test_a_second_job_of_the_same_id_is_stale(world: World) -> None:
    job = await world.accepted(n=1)
    assert await world.unchanged_by(world.acceptance(id=job.id, n=2)) == [Stale()]


async def test_a_decision_of_whom_the_job_was_taken_from_is_fenced(world: World) -> None:
    job = await world.accepted()
    opening = orders.changed(job, orders.opened(job), world.now)
    world.passes(LEASE)
    assert await world.claimable() == {job.id}
    assert await world.unchanged_by(opening) == [Fenced()]


async def test_a_decision_with_a_fence_that_was_never_given_out_is_fenced(world: World) -> None:
    job = await world.accepted()
    assert await world.unchanged_by(orders.changed(job, orders.opened(job, fence=7), world.now)) == [Fenced()]


async def test_a_decision_that_is_late_in_both_ways_is_refused(world: World) -> None:
    """Which of the two it is told first leads to the same end: reloaded and tried again, it is fenced."""
    job = await world.accepted()
    opening = orders.changed(job, orders.opened(job), world.now)
    world.passes(LEASE)
    (claimed,) = await world.store.claim()
    await world.happens(claimed.job, orders.opened(job, fence=claimed.fence, place=1))
    (outcome,) = await world.unchanged_by(opening)
    assert outcome in (Stale(), Fenced())


async def test_a_fact_needs_no_lease(world: World) -> None:
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job))
    world.passes(LEASE)
    await world.claimable()
    assert await world.store.commit(orders.changed(job, CallbackSeen(attempt=1), world.now)) == Applied()


@pytest.mark.parametrize(("name", "window"), [("day", DAY), ("month", MONTH)])
async def test_a_limit_that_would_be_passed_is_told_with_its_figures(world: World, name: str, window: str) -> None:
    await world.bought()
    await world.accepted()
    full = PRICE + 2 * CEILING
    extras = {"webhook": True, "idempotency": orders.key(), "documents": {"request": b"{}"}}
    over = world.acceptance(**{name: full - 1}, **extras)
    told = OverBudget(window=window, limit=full - 1, spent=PRICE, held=CEILING)
    assert await world.unchanged_by(over) == [told]
    assert await world.tried(**{name: full}, **extras) == Applied()


async def test_what_is_over_budget_leaves_its_key_to_a_later_request(world: World) -> None:
    over = world.acceptance(day=CEILING - 1, idempotency=orders.key())
    assert await world.unchanged_by(over) == [OverBudget(window=DAY, limit=CEILING - 1, spent=0, held=0)]
    assert await world.tried(day=CEILING, idempotency=orders.key()) == Applied()


async def test_a_limit_of_nothing_lets_nothing_pass(world: World) -> None:
    assert await world.unchanged_by(world.acceptance(day=0)) == [OverBudget(window=DAY, limit=0, spent=0, held=0)]


async def test_a_limit_that_was_lowered_below_what_is_spent_stops_new_jobs_only(world: World) -> None:
    job = await world.accepted()
    assert isinstance(await world.tried(day=1), OverBudget)
    await world.happens(job, orders.opened(job), orders.ticket(), orders.delivered(job, cost=3 * CEILING))
    assert isinstance(await world.tried(day=1), OverBudget)


async def test_another_team_of_the_same_partition_has_a_budget_of_its_own(world: World) -> None:
    first, second = orders.teams_of_one_partition(2)
    assert await world.tried(first, day=CEILING) == Applied()
    assert await world.tried(second, day=CEILING) == Applied()
    assert isinstance(await world.tried(first, day=CEILING), OverBudget)


async def test_money_given_back_may_be_set_aside_again(world: World) -> None:
    job = await world.accepted(day=CEILING)
    assert isinstance(await world.tried(day=CEILING), OverBudget)
    await world.happens(job, CancelAsked())
    assert await world.tried(day=CEILING) == Applied()


async def test_a_request_repeated_under_its_key_is_known(world: World) -> None:
    job = await world.accepted(idempotency=orders.key())
    again = world.acceptance(n=1, idempotency=orders.key(), documents={"request": b"{}"}, webhook=True)
    assert await world.unchanged_by(again) == [Known(job.id)]


async def test_it_is_known_though_the_budget_is_used_up(world: World) -> None:
    job = await world.accepted(day=CEILING, idempotency=orders.key())
    assert await world.unchanged_by(world.acceptance(day=CEILING, idempotency=orders.key())) == [Known(job.id)]


async def test_it_is_known_as_long_as_the_record_says_however_the_job_ended(world: World) -> None:
    job = await world.bought(idempotency=orders.key(seconds=1000.0))
    world.passes(999.0)
    assert await world.unchanged_by(world.acceptance(idempotency=orders.key())) == [Known(job.id)]
    world.passes(1.0)
    assert await world.tried(idempotency=orders.key()) == Applied()


async def test_the_key_of_another_request_is_refused(world: World) -> None:
    job = await world.accepted(idempotency=orders.key())
    other = world.acceptance(n=2, idempotency=orders.key(fingerprint="another body"))
    assert await world.unchanged_by(other) == [KeyReused(job.id)]


async def test_a_key_belongs_to_its_team(world: World) -> None:
    first, second = orders.teams_of_one_partition(2)
    await world.accepted(first, idempotency=orders.key())
    assert await world.tried(second, idempotency=orders.key(fingerprint="another body")) == Applied()


async def test_fifty_acceptances_at_once_under_one_key_make_one_job(world: World) -> None:
    asked = [world.acceptance(idempotency=orders.key(), day=10 * CEILING) for _ in range(50)]
    outcomes = await asyncio.gather(*(world.store.commit(one) for one in asked))
    (made,) = [one.job.id for one, outcome in zip(asked, outcomes, strict=True) if outcome == Applied()]
    assert outcomes.count(Known(made)) == 49
    page = await world.store.list("acme")
    assert [job.id for job in page.jobs] == [made]
    assert (await world.store.budget("acme", DAY))[DAY].held == CEILING


async def test_fifty_acceptances_at_once_never_pass_a_limit(world: World) -> None:
    outcomes = await asyncio.gather(*(world.tried(day=7 * CEILING) for _ in range(50)))
    assert outcomes.count(Applied()) == 7
    assert outcomes.count(OverBudget(window=DAY, limit=7 * CEILING, spent=0, held=7 * CEILING)) == 43


async def test_of_many_changes_of_one_version_at_once_one_is_applied(world: World) -> None:
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job))
    changes = [orders.changed(job, AnswerLost(attempt=1), world.now + number) for number in range(20)]
    outcomes = await asyncio.gather(*(world.store.commit(change) for change in changes))
    assert (outcomes.count(Applied()), outcomes.count(Stale())) == (1, 19)


async def test_an_id_of_another_teams_partition_is_no_way_into_it(world: World) -> None:
    first, second = orders.teams_of_different_partitions(2)
    job = await world.accepted(first)
    assert new_job_id(second)[:6] != job.id[:6]
    assert (await world.store.list(second)).jobs == ()
