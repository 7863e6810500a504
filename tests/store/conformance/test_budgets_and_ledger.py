"""Budgets, ledger and totals: what is held, what is captured, and in which window it counts."""

import pytest

from gateway.jobs.job import Job
from gateway.jobs.job_update_types import AttemptAbandoned, CancelRequested, ImagesStored, OrderFailed
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.base import Applied
from gateway.store.ledger_totals import BudgetBalance, LedgerAccount, LedgerTotal, sum_entries
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.job_factory import CEILING, DAY, MONTH, PRICE
from tests.store.store_harness import StoreHarness

NEXT_DAY, NEXT_MONTH = "2040-05-11", "2040-06"


async def load_held_and_spent(harness: StoreHarness, window: str, team: str = "acme") -> tuple[int, int]:
    found = (await harness.store.load_balances(team, window))[window]
    return found.held, found.spent


async def test_captured_money_is_no_longer_held(harness: StoreHarness) -> None:
    await harness.create_settled_job(n=3)
    spent = BudgetBalance(held=0, spent=3 * PRICE)
    assert await harness.store.load_balances("acme", DAY, MONTH) == {DAY: spent, MONTH: spent}


async def test_rest_stays_held_while_images_are_missing(harness: StoreHarness) -> None:
    job = await harness.create_job(n=3)
    job = await harness.apply_updates(
        job, job_factory.make_attempt_started(job), ImagesStored(attempt=1, images=(0, 2), made_count=2)
    )
    assert await load_held_and_spent(harness, DAY) == (CEILING, 2 * PRICE)
    await harness.apply_updates(job, CancelRequested())
    assert await load_held_and_spent(harness, DAY) == (0, 2 * PRICE)


async def test_teams_have_separate_budgets(harness: StoreHarness) -> None:
    first, second = job_factory.pick_teams_of_one_partition(2)
    await harness.create_job(first)
    await harness.create_settled_job(second)
    assert await load_held_and_spent(harness, DAY, first) == (CEILING, 0)
    assert await load_held_and_spent(harness, DAY, second) == (0, PRICE)
    assert await load_held_and_spent(harness, DAY, "a team that never was") == (0, 0)


@pytest.mark.parametrize(
    ("accepted", "windows", "later"),
    [
        ("2040-05-10T23:59:59", (DAY, MONTH), (NEXT_DAY,)),
        ("2040-05-31T23:59:59", ("2040-05-31", MONTH), ("2040-06-01", NEXT_MONTH)),
        ("2040-12-31T23:59:59", ("2040-12-31", "2040-12"), ("2041-01-01", "2041-01")),
    ],
)
async def test_money_counts_in_the_windows_of_the_jobs_creation(
    harness: StoreHarness, accepted: str, windows: tuple[str, str], later: tuple[str, ...]
) -> None:
    """The job is settled a minute after the end of a day, month or year."""
    harness.clock.now = job_factory.parse_utc_time(accepted)
    job = await harness.create_job()
    harness.advance_time(60.0)
    await harness.apply_updates(
        job,
        job_factory.make_attempt_started(job),
        job_factory.make_ticket_received(),
        job_factory.make_images_stored(job),
    )
    assert [await load_held_and_spent(harness, window) for window in windows] == [(0, PRICE)] * 2
    assert [await load_held_and_spent(harness, window) for window in later] == [(0, 0)] * len(later)
    assert [entry.day for entry in await harness.store.list_ledger_entries(windows[0])] == [windows[0]]
    assert await harness.store.list_ledger_entries(later[0]) == ()


async def test_new_day_has_its_own_limit_within_the_month(harness: StoreHarness) -> None:
    assert await harness.try_create_job(day=CEILING, month=2 * CEILING) == Applied()
    harness.advance_time(86_400.0)
    assert await harness.try_create_job(day=CEILING, month=2 * CEILING) == Applied()
    assert [await load_held_and_spent(harness, window) for window in (DAY, NEXT_DAY, MONTH)] == [
        (CEILING, 0),
        (CEILING, 0),
        (2 * CEILING, 0),
    ]


async def test_ledger_lists_entries_in_commit_order(harness: StoreHarness) -> None:
    job = await harness.create_job(n=2)
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), job_factory.make_ticket_received())
    delivery = job_factory.make_update_commit(job, ImagesStored(attempt=1, images=(0,), made_count=2), harness.now)
    await harness.apply_commit(delivery)
    assert {entry.line for entry in delivery.ledger_entries} == {LedgerLine.CAPTURE, LedgerLine.ORPHAN}
    other = await harness.create_settled_job()
    entries = await harness.store.list_ledger_entries(DAY)
    assert entries[:2] == delivery.ledger_entries
    assert [entry.job for entry in entries[2:]] == [other.id]


async def test_ledger_is_listed_for_one_team_or_all(harness: StoreHarness) -> None:
    first_team, neighbour_team = job_factory.pick_teams_of_one_partition(2)
    (distant_team,) = (
        set(job_factory.pick_teams_of_different_partitions(2))
        - {first_team}
        - {neighbour_team}
        - {job_factory.pick_teams_of_different_partitions(1)[0]}
    )
    jobs = {team: await harness.create_settled_job(team) for team in (first_team, neighbour_team, distant_team)}
    for team, job in jobs.items():
        assert [entry.job for entry in await harness.store.list_ledger_entries(DAY, team)] == [job.id]
    assert {entry.job for entry in await harness.store.list_ledger_entries(DAY)} == {job.id for job in jobs.values()}
    assert await harness.store.list_ledger_entries(NEXT_DAY) == ()
    assert await harness.store.list_ledger_entries(DAY, "a team that never was") == ()


async def create_corrected_job(harness: StoreHarness) -> Job:
    """Creates a job that was assumed to be charged until the seller reported a failure, which costs nothing."""
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), job_factory.make_ticket_received())
    job = await harness.apply_updates(job, AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.ORDER_TIMED_OUT))
    harness.advance_time(3600.0)
    return await harness.apply_updates(job, OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED))


async def test_correction_is_another_entry_with_the_amount_reversed(harness: StoreHarness) -> None:
    await create_corrected_job(harness)
    entries = await harness.store.list_ledger_entries(DAY)
    assert [(entry.line, entry.amount, entry.images) for entry in entries] == [
        (LedgerLine.SUSPECTED, PRICE, 1),
        (LedgerLine.SUSPECTED, -PRICE, -1),
    ]
    assert entries[1].posted_at == entries[0].posted_at + 3600.0


async def test_suspected_cost_is_not_spent_by_the_team(harness: StoreHarness) -> None:
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    await harness.apply_updates(job, AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.RESPONSE_LOST))
    assert await load_held_and_spent(harness, DAY) == (0, 0)


async def test_day_totals_are_the_sums_of_the_entries(harness: StoreHarness) -> None:
    first, second = job_factory.pick_teams_of_one_partition(2)
    await harness.create_settled_job(first, n=2)
    await harness.create_settled_job(first, n=1)
    await harness.create_settled_job(second)
    await create_corrected_job(harness)
    harness.advance_time(86_400.0)
    await harness.create_settled_job(first)
    entries = (*await harness.store.list_ledger_entries(DAY), *await harness.store.list_ledger_entries(NEXT_DAY))
    totals = await harness.store.list_day_totals(DAY, NEXT_DAY)
    assert {total.key: total for total in totals if total.amount or total.images} == {
        key: total
        for key, total in sum_entries(entries).items()
        if not total.is_hourly and (total.amount or total.images)
    }
    account = LedgerAccount(
        team=first, seller="runapi", model="gpt-image-2", cell=job_factory.CELL, line=LedgerLine.CAPTURE
    )
    captured = [total for total in totals if total.account == account]
    assert captured == [
        LedgerTotal(period=DAY, account=account, amount=3 * PRICE, images=3),
        LedgerTotal(period=NEXT_DAY, account=account, amount=PRICE, images=1),
    ]


async def test_day_totals_are_listed_by_inclusive_days_and_team(harness: StoreHarness) -> None:
    first, second = job_factory.pick_teams_of_different_partitions(2)
    for team in (first, second):
        harness.clock.now = job_factory.NOON
        for _ in range(3):
            await harness.create_settled_job(team)
            harness.advance_time(86_400.0)

    async def list_days(begin: str, end: str, team: str | None = None) -> list[tuple[str, str]]:
        found = await harness.store.list_day_totals(begin, end, team)
        return sorted((total.day, total.account.team) for total in found)

    assert await list_days(DAY, NEXT_DAY, first) == [(DAY, first), (NEXT_DAY, first)]
    assert await list_days(NEXT_DAY, NEXT_DAY) == sorted([(NEXT_DAY, first), (NEXT_DAY, second)])
    assert await list_days("2040-05-01", "2040-05-31", second) == [
        (DAY, second),
        (NEXT_DAY, second),
        ("2040-05-12", second),
    ]
    assert await list_days("2040-04-01", "2040-04-30") == []
    assert await list_days(NEXT_DAY, DAY) == []


async def test_very_large_sums_are_exact_to_the_micro_dollar(harness: StoreHarness) -> None:
    """The amounts exceed 2**31 and have more digits than Lua prints of a float."""
    expensive_entry = job_factory.ROUTE_ENTRY.__class__(
        "runapi",
        "runapi",
        "gpt-image-2",
        job_factory.CELL,
        4,
        1_234_567_890_123,
        1_234_567_890_123,
        420.0,
        True,
        "search",
    )
    job = await harness.create_job(route=(expensive_entry,), n=3)
    assert await load_held_and_spent(harness, DAY) == (3_703_703_670_369, 0)
    await harness.apply_updates(
        job,
        job_factory.make_attempt_started(job),
        job_factory.make_ticket_received(),
        job_factory.make_images_stored(job, cost=3_703_703_670_361),
    )
    assert await load_held_and_spent(harness, MONTH) == (0, 3_703_703_670_361)
    (total,) = await harness.store.list_day_totals(DAY, DAY)
    assert total.amount == 3_703_703_670_361


async def test_invalid_or_too_many_days_are_rejected(harness: StoreHarness) -> None:
    for first, last in (("x", "y"), ("2026-02-30", "2026-03-01"), ("0001-01-01", "9999-12-31")):
        with pytest.raises(ValueError, match=r"day|Invalid|month"):
            await harness.store.list_day_totals(first, last)


async def test_implausible_cost_is_capped(harness: StoreHarness) -> None:
    job = await harness.create_job()
    hold = job.hold
    job = await harness.apply_updates(
        job, job_factory.make_attempt_started(job), job_factory.make_images_stored(job, cost=10**19)
    )
    spent = (await harness.store.load_balances("acme", DAY))[DAY].spent
    assert spent == job.captured_amount == hold
    totals = {total.account.line: total.amount for total in await harness.store.list_day_totals(DAY, DAY)}
    assert totals == {LedgerLine.CAPTURE: hold, LedgerLine.EXCESS: 10**13 - hold}
    reports = [await harness.store.audit(partition, repair=False) for partition in harness.store.partitions]
    assert sum(report.discrepancy_count for report in reports) == 0
