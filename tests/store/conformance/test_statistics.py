"""Statistics for metrics: lifetime totals equal the ledger and never fall, and the backlog is that of the open jobs."""

from collections import Counter
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from gateway.jobs.budgets import BudgetLimits, KeyBudget
from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import AttemptAbandoned, ImagesStored, JobExpired, OrderFailed
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.base import DAY_SECONDS, Retention
from gateway.store.ledger_totals import BudgetBalance, LedgerAccount, ledger_account
from gateway.store.statistics import HEARTBEAT_TTL_SECONDS, Backlog, LifetimeTotal, OpenState
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.job_factory import CEILING, DAY, MONTH, PRICE
from tests.store.store_harness import LEASE_SECONDS, StoreHarness

Numbers = tuple[int, int]
EMPTY_BACKLOG = Backlog(jobs=dict.fromkeys(OpenState, 0), oldest_seconds=0.0, due_lag_seconds=0.0)


async def read_net_totals(harness: StoreHarness) -> dict[LedgerAccount, Numbers]:
    """Returns amount and images of each account whose lifetime total is not 0."""
    totals = await harness.store.statistics.update_lifetime_totals()
    net = {
        total.account: (total.charged - total.corrected, total.charged_images - total.corrected_images)
        for total in totals
    }
    assert len(net) == len(totals), "an account has two totals"
    return {account: numbers for account, numbers in net.items() if any(numbers)}


def sum_ledger(entries: Iterable[LedgerEntry]) -> dict[LedgerAccount, Numbers]:
    amounts, images = Counter[LedgerAccount](), Counter[LedgerAccount]()
    for entry in entries:
        account = replace(ledger_account(entry), budget_key="")
        amounts[account] += entry.amount
        images[account] += entry.images
    net = {account: (amounts[account], images[account]) for account in amounts}
    return {account: numbers for account, numbers in net.items() if any(numbers)}


async def create_suspected_job(harness: StoreHarness) -> Job:
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), job_factory.make_ticket_received())
    return await harness.apply_updates(job, AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.ORDER_TIMED_OUT))


async def test_lifetime_totals_are_the_sums_of_the_ledger(harness: StoreHarness) -> None:
    """Over several days, teams, partitions and lines, and however often they are updated."""
    first, second = job_factory.pick_teams_of_different_partitions(2)
    for _ in range(3):
        for team in (first, second, "acme"):
            await harness.create_settled_job(team, n=2)
            job = await harness.create_job(team, n=2)
            job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
            await harness.apply_updates(job, ImagesStored(attempt=1, images=(0,), made_count=2))
            assert await read_net_totals(harness) == sum_ledger(harness.raw_store.read_ledger())
        harness.advance_time(DAY_SECONDS)
    lines = {account.line for account in await read_net_totals(harness)}
    assert lines == {LedgerLine.CAPTURE, LedgerLine.ORPHAN}


async def test_lifetime_total_is_the_sum_of_all_api_keys(harness: StoreHarness) -> None:
    """Also of a key in a file with an unusual path."""
    for key_id in ("", "k1", "env:IGW_KEY", "file:/run/a key:[b],c"):
        budget = KeyBudget(key_id, BudgetLimits()) if key_id else None
        await harness.create_settled_job(key_id=key_id, key_budget=budget)
        assert await read_net_totals(harness) == sum_ledger(harness.raw_store.read_ledger())
    [(account, numbers)] = (await read_net_totals(harness)).items()
    assert (account.budget_key, numbers) == ("", (4 * PRICE, 4))


async def test_correction_is_counted_apart_so_that_no_number_falls(harness: StoreHarness) -> None:
    job = await create_suspected_job(harness)
    (before,) = await harness.store.statistics.update_lifetime_totals()
    assert before == LifetimeTotal(account=before.account, charged=PRICE, charged_images=1)
    await harness.apply_updates(job, OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED))
    (after,) = await harness.store.statistics.update_lifetime_totals()
    assert after == LifetimeTotal(
        account=before.account, charged=PRICE, charged_images=1, corrected=PRICE, corrected_images=1
    )


async def test_late_entry_of_an_earlier_day_is_counted(harness: StoreHarness) -> None:
    job = await create_suspected_job(harness)
    await read_net_totals(harness)
    harness.advance_time(5 * DAY_SECONDS)
    await harness.apply_updates(job, OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED))
    assert await read_net_totals(harness) == {}


async def test_lifetime_totals_stay_when_their_days_are_deleted(harness: StoreHarness) -> None:
    await harness.create_settled_job(n=3)
    expected = await read_net_totals(harness)
    harness.advance_time(Retention().totals + 62 * DAY_SECONDS)
    await harness.store.delete_expired()
    assert await harness.store.list_day_totals(DAY, DAY) == ()
    assert await read_net_totals(harness) == expected
    await harness.create_settled_job(n=1)
    ((amount, images),) = (await read_net_totals(harness)).values()
    assert (amount, images) == (4 * PRICE, 4)


async def test_day_totals_of_an_earlier_version_are_counted_once(harness: StoreHarness) -> None:
    job = await create_suspected_job(harness)
    await harness.create_settled_job(n=3)
    harness.advance_time(3 * DAY_SECONDS)
    await harness.create_settled_job("other-team")
    expected = sum_ledger(harness.raw_store.read_ledger())
    harness.raw_store.delete_statistics()
    for _ in range(2):
        assert await read_net_totals(harness) == expected
    await harness.apply_updates(job, OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED))
    assert await read_net_totals(harness) == sum_ledger(harness.raw_store.read_ledger())


async def test_commit_of_an_earlier_version_beside_this_one_is_counted(redis_harness: StoreHarness) -> None:
    """It books the day total, and does not mark the day."""
    harness = redis_harness
    await read_net_totals(harness)
    await harness.create_settled_job()
    for key in harness.raw_store.client.keys("*:uncounted_days"):
        harness.raw_store.client.delete(key)
    assert await read_net_totals(harness) == sum_ledger(harness.raw_store.read_ledger())


async def test_gain_is_counted_once_by_all_replicas_together(shared_harness: StoreHarness) -> None:
    harness = shared_harness
    async with harness.open_another() as other:
        await harness.create_settled_job(n=2)
        totals = await job_factory.gather_all(
            store.statistics.update_lifetime_totals() for store in (harness.store, other) * 5
        )
        assert {(total.charged, total.charged_images) for found in totals for total in found} == {(2 * PRICE, 2)}


async def test_repaired_day_total_repairs_the_lifetime_total(harness: StoreHarness) -> None:
    await harness.create_settled_job()
    await read_net_totals(harness)
    harness.raw_store.change_totals(DAY, 5)
    for partition in harness.store.partitions:
        await harness.store.audit(partition)
    assert await read_net_totals(harness) == sum_ledger(harness.raw_store.read_ledger())


async def test_large_lifetime_totals_are_exact_to_the_micro_dollar(harness: StoreHarness) -> None:
    entry = job_factory.ROUTE_ENTRY.__class__(
        "runapi", "runapi", "gpt-image-2", job_factory.CELL, 4, 10**12 + 1, 10**12 + 1, 420.0, True, "search"
    )
    for _ in range(3):
        job = await harness.create_job(route=(entry,), n=4)
        images = job_factory.make_images_stored(job, cost=4 * 10**12 + 3)
        await harness.apply_updates(
            job, job_factory.make_attempt_started(job), job_factory.make_ticket_received(), images
        )
        harness.advance_time(DAY_SECONDS)
    assert [numbers for numbers in (await read_net_totals(harness)).values()] == [(3 * (4 * 10**12 + 3), 12)]


async def test_balances_of_all_teams_are_listed(harness: StoreHarness) -> None:
    first, second = job_factory.pick_teams_of_one_partition(2)
    await harness.create_job(first, n=2)
    await harness.create_settled_job(second)
    balances = await harness.store.statistics.list_balances(DAY, MONTH)
    held, spent = BudgetBalance(held=2 * CEILING), BudgetBalance(spent=PRICE)
    assert balances == {(first, DAY): held, (first, MONTH): held, (second, DAY): spent, (second, MONTH): spent}
    assert {
        key: value
        for key, value in (await harness.store.statistics.list_balances("2040-05-11")).items()
        if value != BudgetBalance()
    } == {}


async def test_backlog_of_an_empty_store_is_empty(harness: StoreHarness) -> None:
    assert await harness.store.statistics.read_backlog() == EMPTY_BACKLOG


async def test_backlog_counts_open_jobs_by_state(harness: StoreHarness) -> None:
    first, second = job_factory.pick_teams_of_different_partitions(2)
    await harness.create_job(first)
    harness.advance_time(10.0)
    queued = [await harness.create_job(team) for team in (first, second)]
    await harness.create_settled_job()
    started = await harness.apply_updates(queued[0], job_factory.make_attempt_started(queued[0]))
    backlog = await harness.store.statistics.read_backlog()
    assert backlog.jobs == {OpenState.QUEUED: 2, OpenState.IN_PROGRESS: 1, OpenState.ENDED: 0}
    assert backlog.oldest_seconds == pytest.approx(10.0, abs=0.01)
    harness.advance_time(started.deadline - harness.now)
    await harness.apply_updates(started, JobExpired(fence=1))
    assert (await harness.store.statistics.read_backlog()).jobs[OpenState.ENDED] == 1


async def test_job_leaves_the_backlog_when_it_is_settled(harness: StoreHarness) -> None:
    await harness.create_settled_job()
    harness.advance_time(1000.0)
    assert await harness.store.statistics.read_backlog() == EMPTY_BACKLOG


async def test_due_lag_is_the_time_for_which_no_replica_claimed_a_job(harness: StoreHarness) -> None:
    job = await harness.create_job()
    assert (await harness.store.statistics.read_backlog()).due_lag_seconds == 0.0
    harness.advance_time(LEASE_SECONDS + 30.0)
    assert (await harness.store.statistics.read_backlog()).due_lag_seconds == pytest.approx(30.0, abs=0.01)
    assert await harness.claim_job_ids() == {job.id}
    assert (await harness.store.statistics.read_backlog()).due_lag_seconds == 0.0


async def test_heartbeat_of_a_killed_replica_is_listed_for_a_while(shared_harness: StoreHarness) -> None:
    harness = shared_harness
    async with harness.open_another("two") as other:
        await other.statistics.exchange_heartbeats()
        harness.advance_time(20.0)
        ages = await harness.store.statistics.exchange_heartbeats()
        assert ages == {"one": pytest.approx(0.0, abs=0.01), "two": pytest.approx(20.0, abs=0.01)}
        harness.advance_time(HEARTBEAT_TTL_SECONDS)
        assert set(await harness.store.statistics.exchange_heartbeats()) == {"one"}


async def test_heartbeat_of_a_stopped_replica_is_deleted(shared_harness: StoreHarness) -> None:
    async with shared_harness.open_another("two") as other:
        await other.statistics.exchange_heartbeats()
        assert set(await shared_harness.store.statistics.exchange_heartbeats()) == {"one", "two"}
    assert set(await shared_harness.store.statistics.exchange_heartbeats()) == {"one"}


async def test_own_heartbeat_is_listed(harness: StoreHarness) -> None:
    assert await harness.store.statistics.exchange_heartbeats() == {"one": pytest.approx(0.0, abs=0.01)}
