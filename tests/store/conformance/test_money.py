"""Budgets, ledger and totals: what is set aside, what is captured, and in which window it counts."""

import pytest

from gateway.jobs.facts import AttemptGivenUp, CancelAsked, OrderFailed, PicturesDelivered
from gateway.jobs.job import Job
from gateway.jobs.tables import Line
from gateway.store.base import Applied
from gateway.store.books import Account, Balance, Total, added_up
from providers.faults import FaultKind
from tests.store import orders
from tests.store.orders import CEILING, DAY, MONTH, PRICE
from tests.store.worlds import World

NEXT_DAY, NEXT_MONTH = "2040-05-11", "2040-06"


async def balance(world: World, window: str, team: str = "acme") -> tuple[int, int]:
    found = (await world.store.budget(team, window))[window]
    return found.held, found.spent


async def test_what_is_captured_is_no_longer_set_aside(world: World) -> None:
    await world.bought(n=3)
    spent = Balance(held=0, spent=3 * PRICE)
    assert await world.store.budget("acme", DAY, MONTH) == {DAY: spent, MONTH: spent}


async def test_the_rest_stays_set_aside_while_images_are_waited_for(world: World) -> None:
    job = await world.accepted(n=3)
    job = await world.happens(job, orders.opened(job), PicturesDelivered(attempt=1, images=(0, 2), made=2))
    assert await balance(world, DAY) == (CEILING, 2 * PRICE)
    await world.happens(job, CancelAsked())
    assert await balance(world, DAY) == (0, 2 * PRICE)


async def test_teams_have_budgets_of_their_own(world: World) -> None:
    first, second = orders.teams_of_one_partition(2)
    await world.accepted(first)
    await world.bought(second)
    assert await balance(world, DAY, first) == (CEILING, 0)
    assert await balance(world, DAY, second) == (0, PRICE)
    assert await balance(world, DAY, "a team that never was") == (0, 0)


@pytest.mark.parametrize(
    ("accepted", "windows", "later"),
    [
        ("2040-05-10T23:59:59", (DAY, MONTH), (NEXT_DAY,)),
        ("2040-05-31T23:59:59", ("2040-05-31", MONTH), ("2040-06-01", NEXT_MONTH)),
        ("2040-12-31T23:59:59", ("2040-12-31", "2040-12"), ("2041-01-01", "2041-01")),
    ],
)
async def test_money_counts_in_the_windows_of_its_jobs_acceptance(
    world: World, accepted: str, windows: tuple[str, str], later: tuple[str, ...]
) -> None:
    """Settled a minute past midnight, a month's or a year's end."""
    world.clock.now = orders.at(accepted)
    job = await world.accepted()
    world.passes(60.0)
    await world.happens(job, orders.opened(job), orders.ticket(), orders.delivered(job))
    assert [await balance(world, window) for window in windows] == [(0, PRICE)] * 2
    assert [await balance(world, window) for window in later] == [(0, 0)] * len(later)
    assert [entry.day for entry in await world.store.ledger(windows[0])] == [windows[0]]
    assert await world.store.ledger(later[0]) == ()


async def test_a_new_day_has_a_limit_of_its_own_within_the_months(world: World) -> None:
    assert await world.tried(day=CEILING, month=2 * CEILING) == Applied()
    world.passes(86_400.0)
    assert await world.tried(day=CEILING, month=2 * CEILING) == Applied()
    assert [await balance(world, window) for window in (DAY, NEXT_DAY, MONTH)] == [
        (CEILING, 0),
        (CEILING, 0),
        (2 * CEILING, 0),
    ]


async def test_the_ledger_has_what_commits_say_in_the_order_they_said_it(world: World) -> None:
    job = await world.accepted(n=2)
    job = await world.happens(job, orders.opened(job), orders.ticket())
    delivery = orders.changed(job, PicturesDelivered(attempt=1, images=(0,), made=2), world.now)
    await world.done(delivery)
    assert {entry.line for entry in delivery.ledger} == {Line.CAPTURE, Line.ORPHAN}
    other = await world.bought()
    entries = await world.store.ledger(DAY)
    assert entries[:2] == delivery.ledger
    assert [entry.job for entry in entries[2:]] == [other.id]


async def test_the_ledger_is_read_of_one_team_or_of_all(world: World) -> None:
    near, beside = orders.teams_of_one_partition(2)
    (far,) = (
        set(orders.teams_of_different_partitions(2)) - {near} - {beside} - {orders.teams_of_different_partitions(1)[0]}
    )
    jobs = {team: await world.bought(team) for team in (near, beside, far)}
    for team, job in jobs.items():
        assert [entry.job for entry in await world.store.ledger(DAY, team)] == [job.id]
    assert {entry.job for entry in await world.store.ledger(DAY)} == {job.id for job in jobs.values()}
    assert await world.store.ledger(NEXT_DAY) == ()
    assert await world.store.ledger(DAY, "a team that never was") == ()


async def corrected(world: World) -> Job:
    """Suspected first; then the seller says that it failed, which costs nothing."""
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job), orders.ticket())
    job = await world.happens(job, AttemptGivenUp(fence=1, attempt=1, kind=FaultKind.OVERDUE))
    world.passes(3600.0)
    return await world.happens(job, OrderFailed(attempt=1, kind=FaultKind.FAILED))


async def test_a_correction_is_another_entry_with_the_amount_reversed(world: World) -> None:
    await corrected(world)
    entries = await world.store.ledger(DAY)
    assert [(entry.line, entry.amount, entry.images) for entry in entries] == [
        (Line.SUSPECTED, PRICE, 1),
        (Line.SUSPECTED, -PRICE, -1),
    ]
    assert entries[1].at == entries[0].at + 3600.0


async def test_what_is_perhaps_bought_is_no_spend_of_the_team(world: World) -> None:
    job = await world.accepted()
    job = await world.happens(job, orders.opened(job))
    await world.happens(job, AttemptGivenUp(fence=1, attempt=1, kind=FaultKind.LOST))
    assert await balance(world, DAY) == (0, 0)


async def test_totals_are_what_the_entries_add_up_to(world: World) -> None:
    first, second = orders.teams_of_one_partition(2)
    await world.bought(first, n=2)
    await world.bought(first, n=1)
    await world.bought(second)
    await corrected(world)
    world.passes(86_400.0)
    await world.bought(first)
    entries = (*await world.store.ledger(DAY), *await world.store.ledger(NEXT_DAY))
    totals = await world.store.usage(DAY, NEXT_DAY)
    assert {(total.day, total.account): total for total in totals if total.amount or total.images} == {
        key: total for key, total in added_up(entries).items() if total.amount or total.images
    }
    account = Account(team=first, seller="runapi", model="gpt-image-2", cell=orders.CELL, line=Line.CAPTURE)
    captured = [total for total in totals if total.account == account]
    assert captured == [
        Total(day=DAY, account=account, amount=3 * PRICE, images=3),
        Total(day=NEXT_DAY, account=account, amount=PRICE, images=1),
    ]


async def test_totals_are_read_from_day_to_day_both_included_of_one_team_or_of_all(world: World) -> None:
    first, second = orders.teams_of_different_partitions(2)
    for team in (first, second):
        world.clock.now = orders.NOON
        for _ in range(3):
            await world.bought(team)
            world.passes(86_400.0)

    async def days(begin: str, end: str, team: str | None = None) -> list[tuple[str, str]]:
        found = await world.store.usage(begin, end, team)
        return sorted((total.day, total.account.team) for total in found)

    assert await days(DAY, NEXT_DAY, first) == [(DAY, first), (NEXT_DAY, first)]
    assert await days(NEXT_DAY, NEXT_DAY) == sorted([(NEXT_DAY, first), (NEXT_DAY, second)])
    assert await days("2040-05-01", "2040-05-31", second) == [(DAY, second), (NEXT_DAY, second), ("2040-05-12", second)]
    assert await days("2040-04-01", "2040-04-30") == []
    assert await days(NEXT_DAY, DAY) == []


async def test_very_large_sums_are_kept_to_the_micro_dollar(world: World) -> None:
    """Above 2**31 and with more digits than a float that was printed short."""
    dear = orders.PLACE.__class__(
        "runapi", "runapi", "gpt-image-2", orders.CELL, 4, 1_234_567_890_123, 1_234_567_890_123, 420.0, True, "search"
    )
    job = await world.accepted(route=(dear,), n=3)
    assert await balance(world, DAY) == (3_703_703_670_369, 0)
    await world.happens(job, orders.opened(job), orders.ticket(), orders.delivered(job, cost=3_703_703_670_361))
    assert await balance(world, MONTH) == (0, 3_703_703_670_361)
    (total,) = await world.store.usage(DAY, DAY)
    assert total.amount == 3_703_703_670_361


async def test_what_is_no_day_or_too_many_days_is_refused(world: World) -> None:
    for first, last in (("x", "y"), ("2026-02-30", "2026-03-01"), ("0001-01-01", "9999-12-31")):
        with pytest.raises(ValueError, match=r"day|Invalid|month"):
            await world.store.usage(first, last)


async def test_an_absurd_cost_stays_within_what_sums_can_hold(world: World) -> None:
    job = await world.accepted()
    set_aside = job.hold
    job = await world.happens(job, orders.opened(job), orders.delivered(job, cost=10**19))
    spent = (await world.store.budget("acme", DAY))[DAY].spent
    assert spent == job.captured == set_aside
    totals = {total.account.line: total.amount for total in await world.store.usage(DAY, DAY)}
    assert totals == {Line.CAPTURE: set_aside, Line.EXCESS: 10**13 - set_aside}
    found = [await world.store.audit(partition, repair=False) for partition in world.store.partitions]
    assert sum(one.violations for one in found) == 0
