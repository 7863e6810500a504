"""The audit finds no discrepancy where there is none, finds every kind of damage, and repairs it once."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from gateway.jobs.job import Job
from gateway.jobs.job_update_types import AttemptAbandoned, CancelRequested, ImagesStored, OrderFailed
from gateway.store.audit import AuditReport, BudgetDrift
from gateway.store.base import FIRST_FENCE, StoreUnavailable
from gateway.store.partitions import team_partition
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.job_factory import CEILING, DAY, MONTH, PRICE
from tests.store.store_harness import LEASE_SECONDS, StoreHarness

Scenario = Callable[[StoreHarness], Coroutine[Any, Any, Job]]
EMPTY_REPORT = AuditReport()


async def run_audit(harness: StoreHarness, repair: bool = True, team: str = "acme") -> AuditReport:
    """Audits the partition of a team."""
    partition = (
        team_partition(team) if team_partition(team) in harness.store.partitions else harness.store.partitions[0]
    )
    return await harness.store.audit(partition, repair)


async def create_queued_job(harness: StoreHarness) -> Job:
    return await harness.create_job()


async def create_ordered_job(harness: StoreHarness) -> Job:
    job = await harness.create_job(n=2)
    return await harness.apply_updates(job, job_factory.make_attempt_started(job), job_factory.make_ticket_received())


async def create_settled_job(harness: StoreHarness) -> Job:
    return await harness.create_settled_job(has_webhook=True)


async def create_cancelled_job(harness: StoreHarness) -> Job:
    return await harness.apply_updates(await harness.create_job(), CancelRequested())


async def create_partly_delivered_job(harness: StoreHarness) -> Job:
    job = await harness.create_job(n=3)
    return await harness.apply_updates(
        job, job_factory.make_attempt_started(job), ImagesStored(attempt=1, images=(0,), made_count=3)
    )


async def create_suspected_job(harness: StoreHarness) -> Job:
    job = await create_ordered_job(harness)
    return await harness.apply_updates(
        job, AttemptAbandoned(fence=FIRST_FENCE, attempt=1, fault=FaultKind.ORDER_TIMED_OUT)
    )


async def create_corrected_job(harness: StoreHarness) -> Job:
    return await harness.apply_updates(
        await create_suspected_job(harness), OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED)
    )


async def create_failed_over_job(harness: StoreHarness) -> Job:
    job = await harness.create_job()
    job = await harness.apply_updates(
        job, job_factory.make_attempt_started(job), OrderFailed(attempt=1, fault=FaultKind.UNAVAILABLE)
    )
    return await harness.apply_updates(job, job_factory.make_attempt_started(job, route_index=1))


async def create_released_job(harness: StoreHarness) -> Job:
    job = await create_ordered_job(harness)
    assert await harness.store.release_job(job.id, FIRST_FENCE, 5.0)
    return job


async def create_reclaimed_job(harness: StoreHarness) -> Job:
    job = await create_ordered_job(harness)
    harness.advance_time(LEASE_SECONDS)
    assert job.id in await harness.claim_job_ids()
    return job


SCENARIOS: list[Scenario] = [
    *(create_queued_job, create_ordered_job, create_settled_job, create_cancelled_job, create_partly_delivered_job),
    *(create_suspected_job, create_corrected_job, create_failed_over_job, create_released_job, create_reclaimed_job),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_no_discrepancies_after_each_scenario(harness: StoreHarness, scenario: Scenario) -> None:
    await scenario(harness)
    assert await run_audit(harness) == EMPTY_REPORT


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_no_discrepancies_after_midnight_and_month_end(harness: StoreHarness, scenario: Scenario) -> None:
    harness.clock.now = job_factory.parse_utc_time("2040-05-31T23:59:50")
    await scenario(harness)
    harness.advance_time(20.0)
    await scenario(harness)
    assert await run_audit(harness) == EMPTY_REPORT


async def test_audit_without_discrepancies_changes_nothing(harness: StoreHarness) -> None:
    for scenario in SCENARIOS:
        await scenario(harness)
    before = harness.raw_store.dump_everything()
    assert await run_audit(harness) == EMPTY_REPORT
    assert harness.raw_store.dump_everything() == before


async def test_no_discrepancies_in_any_partition(harness: StoreHarness) -> None:
    for team in job_factory.pick_teams_of_different_partitions(12):
        await harness.create_settled_job(team)
        await harness.create_job(team)
    assert {await harness.store.audit(partition) for partition in harness.store.partitions} == {EMPTY_REPORT}


async def audit_and_repair(harness: StoreHarness) -> AuditReport:
    """Audits without repair, then with repair, then asserts that no discrepancy is left."""
    dump_before = harness.raw_store.dump_everything()
    report = await run_audit(harness, repair=False)
    assert harness.raw_store.dump_everything() == dump_before
    assert await run_audit(harness) == report
    assert await run_audit(harness) == EMPTY_REPORT
    return report


async def test_job_missing_from_the_due_list_is_repaired(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.raw_store.delete_due_entry(job.id)
    assert await audit_and_repair(harness) == AuditReport(not_due=(job.id,))
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == {job.id}


async def test_open_job_missing_from_the_open_list_is_repaired(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.raw_store.delete_open_entry(job.id)
    assert await audit_and_repair(harness) == AuditReport(not_open=(job.id,))


@pytest.mark.parametrize("insert_method", ["insert_due_entry", "insert_open_entry"])
async def test_settled_job_that_is_still_listed_is_removed(harness: StoreHarness, insert_method: str) -> None:
    job = await harness.create_settled_job()
    getattr(harness.raw_store, insert_method)(job.id)
    assert await audit_and_repair(harness) == AuditReport(settled_but_listed=(job.id,))
    harness.advance_time(10 * LEASE_SECONDS)
    assert await harness.claim_job_ids() == set()


@pytest.mark.parametrize(("held", "spent"), [(1, 0), (-CEILING, 0), (0, 1), (0, -PRICE), (10**12, -(10**12))])
@pytest.mark.parametrize("window", [DAY, MONTH])
async def test_changed_budget_is_repaired(harness: StoreHarness, window: str, held: int, spent: int) -> None:
    await harness.create_job()
    await harness.create_settled_job()
    before = await harness.store.load_balances("acme", DAY, MONTH)
    harness.raw_store.change_balance("acme", window, held, spent)
    assert await audit_and_repair(harness) == AuditReport(
        budget_drifts=(BudgetDrift(owner="acme", window=window, held=-held, spent=-spent),)
    )
    assert await harness.store.load_balances("acme", DAY, MONTH) == before


async def test_hold_without_jobs_is_released(harness: StoreHarness) -> None:
    """Without open jobs, every hold must be 0."""
    await harness.create_settled_job()
    harness.raw_store.change_balance("acme", DAY, held=7)
    assert await audit_and_repair(harness) == AuditReport(
        budget_drifts=(BudgetDrift(owner="acme", window=DAY, held=-7, spent=0),)
    )


async def test_missing_ledger_entry_of_an_open_job_is_rewritten(harness: StoreHarness) -> None:
    job = await harness.create_job()
    job = await harness.apply_updates(
        job, job_factory.make_attempt_started(job), OrderFailed(attempt=1, fault=FaultKind.NO_IMAGES)
    )
    assert not job.is_settled
    before = [(entry.line, entry.amount, entry.images) for entry in await harness.store.list_ledger_entries(DAY)]
    assert harness.raw_store.delete_ledger_entries(job.id) == len(before) == 1
    report = await audit_and_repair(harness)
    assert [(entry.job, entry.line, entry.amount, entry.images) for entry in report.missing_entries] == [
        (job.id, *before[0])
    ]
    assert report.discrepancy_count == 1
    assert [
        (entry.line, entry.amount, entry.images) for entry in await harness.store.list_ledger_entries(DAY)
    ] == before


async def test_missing_ledger_entry_of_a_settled_job_changes_the_totals(harness: StoreHarness) -> None:
    job = await harness.create_settled_job()
    assert harness.raw_store.delete_ledger_entries(job.id) == 1
    report = await audit_and_repair(harness)
    assert [(total.period, total.amount, total.images) for total in report.total_corrections] == [
        (DAY, -PRICE, -1),
        (f"{DAY}T12", -PRICE, -1),
    ]
    assert {drift.window: drift.spent for drift in report.budget_drifts} == {DAY: -PRICE, MONTH: -PRICE}


async def test_changed_totals_are_repaired(harness: StoreHarness) -> None:
    await harness.create_settled_job()
    before = await harness.store.list_day_totals(DAY, DAY)
    harness.raw_store.change_totals(DAY, 123)
    report = await audit_and_repair(harness)
    assert [(total.amount, total.images) for total in report.total_corrections] == [(-123, 0)]
    assert report.discrepancy_count == 1
    assert await harness.store.list_day_totals(DAY, DAY) == before


async def test_missing_job_is_reported_and_removed_from_the_lists(harness: StoreHarness) -> None:
    job = await harness.create_job()
    harness.raw_store.delete_job(job.id)
    report = await run_audit(harness, repair=False)
    assert report.missing_jobs == (job.id,)
    assert {drift.window: drift.held for drift in report.budget_drifts} == {DAY: -CEILING, MONTH: -CEILING}
    assert await audit_and_repair(harness) == report
    harness.advance_time(LEASE_SECONDS)
    assert await harness.claim_job_ids() == set()


async def test_all_kinds_of_damage_are_repaired_at_once(harness: StoreHarness) -> None:
    not_due, not_open, missing = (
        await harness.create_job(),
        await create_ordered_job(harness),
        await harness.create_job(),
    )
    settled_job = await harness.create_settled_job()
    harness.raw_store.delete_due_entry(not_due.id)
    harness.raw_store.delete_open_entry(not_open.id)
    harness.raw_store.delete_job(missing.id)
    harness.raw_store.insert_due_entry(settled_job.id)
    harness.raw_store.change_balance("acme", DAY, held=3, spent=4)
    harness.raw_store.change_totals(DAY, 5)
    report = await audit_and_repair(harness)
    assert (report.not_due, report.not_open, report.missing_jobs, report.settled_but_listed) == (
        (not_due.id,),
        (not_open.id,),
        (missing.id,),
        (settled_job.id,),
    )
    assert len(report.total_corrections) == 1
    assert (await harness.store.load_balances("acme", DAY))[DAY].held == 3 * CEILING


async def test_damage_in_another_partition_is_not_repaired(shared_harness: StoreHarness) -> None:
    audited_team, damaged_team = job_factory.pick_teams_of_different_partitions(2)
    await shared_harness.create_job(audited_team)
    job = await shared_harness.create_job(damaged_team)
    shared_harness.raw_store.delete_due_entry(job.id)
    dump_before = shared_harness.raw_store.dump_everything()
    assert await run_audit(shared_harness, team=audited_team) == EMPTY_REPORT
    assert shared_harness.raw_store.dump_everything() == dump_before
    assert (await run_audit(shared_harness, team=damaged_team)).not_due == (job.id,)


async def test_jobs_continue_during_a_repair(harness: StoreHarness) -> None:
    """Repairs are added, never set, so concurrent changes are not lost."""
    job = await harness.create_job()
    harness.raw_store.change_balance("acme", DAY, held=1000)

    async def create_jobs() -> None:
        for _ in range(20):
            await harness.create_settled_job()

    async def audit_repeatedly() -> None:
        for _ in range(10):
            # If jobs arrive faster than the audit can read them, it gives up until later.
            with suppress(StoreUnavailable):
                await run_audit(harness)

    await job_factory.gather_all([create_jobs(), audit_repeatedly(), audit_repeatedly(), create_jobs()])
    await run_audit(harness)
    assert await run_audit(harness) == EMPTY_REPORT
    balance = (await harness.store.load_balances("acme", DAY))[DAY]
    assert (balance.held, balance.spent) == (CEILING, 40 * PRICE)
    assert await harness.store.load_job(job.id) == job


async def test_audit_reports_no_discrepancy_while_jobs_change(harness: StoreHarness) -> None:
    """The audit reads more than one page, and jobs are created and settled between its pages."""
    for _ in range(15):
        await job_factory.gather_all([harness.create_job() for _ in range(20)])

    async def change_jobs() -> None:
        while True:
            await harness.create_settled_job()
            await harness.apply_updates(await harness.create_job(), CancelRequested())

    tasks = [asyncio.create_task(change_jobs()) for _ in range(3)]
    try:
        reports = [await run_audit(harness, repair=False) for _ in range(5)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert reports == [EMPTY_REPORT] * 5


async def test_audit_is_claimed_once_in_each_interval(harness: StoreHarness) -> None:
    assert await harness.store.claim_audit(3_600.0)
    assert not await harness.store.claim_audit(3_600.0)
    harness.advance_time(3_599.0)
    assert not await harness.store.claim_audit(3_600.0)
    harness.advance_time(2.0)
    assert await harness.store.claim_audit(3_600.0)
    assert not await harness.store.claim_audit(3_600.0)
