"""The ledger entries of a team with a time of its own are deleted after it. Totals and those of others are kept."""

import pytest

from gateway.jobs.job_update_types import AttemptAbandoned, CancelRequested, OrderFailed
from gateway.store.base import DAY_SECONDS
from gateway.store.redis import ledger_entries
from gateway.store.sqlite import ledger_rows
from gateway.store.team_retention import ExpiredTeamDays, make_expired_ledger_entries
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.job_factory import DAY, MONTH
from tests.store.store_harness import StoreHarness

ACME, NEIGHBOUR = job_factory.pick_teams_of_one_partition(2)
KEPT_DAYS = 32.0


def make_expired_entries(harness: StoreHarness) -> ExpiredTeamDays:
    return make_expired_ledger_entries(harness.store, lambda: {ACME: KEPT_DAYS * DAY_SECONDS}, lambda: harness.now)


async def list_jobs(harness: StoreHarness, *, is_irregular: bool = False) -> set[str]:
    """Lists the jobs that have entries on the first day."""
    return {entry.job for entry in await harness.store.list_ledger_entries(DAY, is_irregular=is_irregular)}


async def create_irregular_job(harness: StoreHarness, team: str) -> str:
    """Creates a job whose order may have been charged, which was corrected later."""
    job = await harness.create_job(team)
    job = await harness.apply_updates(
        job,
        job_factory.make_attempt_started(job),
        job_factory.make_ticket_received(),
        AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.ORDER_TIMED_OUT),
        OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED),
    )
    return job.id


async def test_only_old_entries_of_the_team_are_deleted(harness: StoreHarness) -> None:
    regular = {team: (await harness.create_settled_job(team)).id for team in (ACME, NEIGHBOUR)}
    irregular = {team: await create_irregular_job(harness, team) for team in (ACME, NEIGHBOUR)}
    everything = {*regular.values(), *irregular.values()}
    totals, balances = (
        await harness.store.list_day_totals(DAY, DAY),
        await harness.store.load_balances(ACME, DAY, MONTH),
    )
    expired = make_expired_entries(harness)
    harness.advance_time(32.4 * DAY_SECONDS)
    await expired.delete()
    assert await list_jobs(harness) == everything
    harness.advance_time(0.2 * DAY_SECONDS)
    await expired.delete()
    assert await list_jobs(harness) == {regular[NEIGHBOUR], irregular[NEIGHBOUR]}
    assert await list_jobs(harness, is_irregular=True) == {irregular[NEIGHBOUR]}
    assert await harness.store.list_day_totals(DAY, DAY) == totals
    assert await harness.store.load_balances(ACME, DAY, MONTH) == balances
    reports = [await harness.store.audit(partition) for partition in harness.store.partitions]
    assert sum(report.discrepancy_count for report in reports) == 0


async def test_days_of_open_jobs_are_kept(harness: StoreHarness) -> None:
    """They are audited, and without the entries the audit would correct the totals."""
    settled = await harness.create_settled_job(ACME)
    open_job = await harness.create_job("another")
    totals = await harness.store.list_day_totals(DAY, DAY, ACME)
    expired = make_expired_entries(harness)
    harness.advance_time(40 * DAY_SECONDS)
    await expired.delete()
    assert await list_jobs(harness) == {settled.id}
    reports = [await harness.store.audit(partition) for partition in harness.store.partitions]
    assert sum(report.discrepancy_count for report in reports) == 0
    await harness.apply_updates(open_job, CancelRequested())
    await expired.delete()
    assert settled.id not in await list_jobs(harness)
    assert await harness.store.list_day_totals(DAY, DAY, ACME) == totals


@pytest.mark.parametrize("page_size", [1, 3, 7])
async def test_entries_are_deleted_in_pages(
    harness: StoreHarness, page_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ledger_entries, ledger_rows):
        monkeypatch.setattr(module, "DELETION_PAGE_ENTRIES", page_size)
    teams = [ACME, NEIGHBOUR, NEIGHBOUR, ACME, ACME, ACME, NEIGHBOUR]
    kept = [job.id for team in teams if (job := await harness.create_settled_job(team)).team == NEIGHBOUR]
    for _ in range(2):
        await harness.store.delete_ledger_entries(DAY, ACME)
        assert [entry.job for entry in await harness.store.list_ledger_entries(DAY)] == kept
