"""The ledger of a day is deleted while one of its jobs is still open."""

from gateway.store.base import Retention
from gateway.store.ledger_totals import BudgetBalance
from tests.store.job_factory import CEILING, DAY, PRICE, parse_utc_time
from tests.store.store_harness import StoreHarness

DAY_SECONDS = 86_400.0


async def test_deletion_causes_no_audit_discrepancies(harness: StoreHarness) -> None:
    for _ in range(3):
        await harness.create_settled_job()
        await harness.create_job()
        harness.advance_time(40 * DAY_SECONDS)
        await harness.store.delete_expired()
        for partition in harness.store.partitions:
            assert (await harness.store.audit(partition)).discrepancy_count == 0
    assert (await harness.store.load_balances("acme", DAY))[DAY] == BudgetBalance(held=CEILING, spent=PRICE)


async def test_days_of_the_current_month_are_kept_despite_short_retention(harness: StoreHarness) -> None:
    """The audit compares the month's sum with its days: without them, the sum would be a discrepancy."""
    harness.clock.now = parse_utc_time("2040-05-03T12:00:00")
    store = await harness.reopen(retention=Retention(jobs=60.0, ledger=DAY_SECONDS, totals=3 * DAY_SECONDS))
    await harness.create_settled_job()
    harness.advance_time(20 * DAY_SECONDS)
    await store.delete_expired()
    for partition in store.partitions:
        assert (await store.audit(partition)).discrepancy_count == 0
    assert (await store.load_balances("acme", "2040-05"))["2040-05"] == BudgetBalance(spent=PRICE)
    assert [total.amount for total in await store.list_day_totals("2040-05-01", "2040-05-31")] == [PRICE]
