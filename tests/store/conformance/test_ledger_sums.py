"""Sums of the ledger by any dimensions equal those of its entries, for days and for hours."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations

import pytest

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job_update_types import AttemptAbandoned, ImagesStored
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.base import DAY_SECONDS, Retention
from gateway.store.ledger_sums import Dimension, LineSum, TotalsQuery, format_cell
from gateway.store.ledger_totals import format_hour
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.job_factory import DAY, PRICE
from tests.store.store_harness import StoreHarness

NEXT_DAY = "2040-05-11"
# As of a configured key, whose id is its reference.
ODD_KEY_ID = 'file:/run/keys/[a] "b" %5B\'é'
DAYS = TotalsQuery(first_period=DAY, last_period=NEXT_DAY)
HOURS = TotalsQuery(first_period=f"{DAY}T00", last_period=f"{NEXT_DAY}T23")


async def create_suspected_job(harness: StoreHarness, team: str = "acme", **changes: object) -> str:
    """Creates a job whose order may have been charged. Returns its id."""
    job = await harness.create_job(team, **changes)
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), job_factory.make_ticket_received())
    await harness.apply_updates(job, AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.ORDER_TIMED_OUT))
    return job.id


async def create_jobs(harness: StoreHarness) -> None:
    """Creates jobs of three teams, two of one partition, with several API keys, models and lines, in several hours."""
    first, neighbour = job_factory.pick_teams_of_one_partition(2)
    distant = job_factory.pick_teams_of_different_partitions(2)[1]
    for number, team in enumerate((first, neighbour, distant, first, first)):
        await harness.create_settled_job(team, n=1 + number % 2, key_id=("", "abcdefghij", ODD_KEY_ID)[number % 3])
        await create_suspected_job(harness, team, key_id="abcdefghij", model="other")
        harness.advance_time(6.5 * 3600.0)


def sum_by_dimensions(entries: Iterable[LedgerEntry], dimensions: tuple[Dimension, ...]) -> tuple[LineSum, ...]:
    amounts, images = Counter[tuple[tuple[str, ...], LedgerLine]](), Counter[tuple[tuple[str, ...], LedgerLine]]()
    for entry in entries:
        assert entry.hour is not None
        values = {
            Dimension.TEAM: entry.team,
            Dimension.KEY: entry.key_id,
            Dimension.SELLER: entry.seller,
            Dimension.MODEL: entry.model,
            Dimension.CELL: format_cell(entry.cell),
            Dimension.DAY: entry.day,
            Dimension.HOUR: format_hour(entry.day, entry.hour),
        }
        key = tuple(values[dimension] for dimension in dimensions), entry.line
        amounts[key] += entry.amount
        images[key] += entry.images
    return tuple(sorted(LineSum(values, line, amounts[values, line], images[values, line]) for values, line in amounts))


async def test_sums_equal_those_of_the_entries(harness: StoreHarness) -> None:
    await create_jobs(harness)
    entries = harness.raw_store.read_ledger()
    assert {entry.key_id for entry in entries} == {"", "abcdefghij", ODD_KEY_ID}
    pairs = [(), tuple(Dimension), *combinations(Dimension, 1), *combinations(Dimension, 2)]
    for dimensions in pairs:
        expected = sum_by_dimensions(entries, dimensions)
        for query in (DAYS, HOURS):
            if query.is_hourly or Dimension.HOUR not in dimensions:
                found = await harness.store.sum_totals(
                    TotalsQuery(first_period=query.first_period, last_period=query.last_period, dimensions=dimensions)
                )
                assert found == expected, (query, dimensions)


async def test_sums_of_one_team_and_of_some_hours(harness: StoreHarness) -> None:
    await create_jobs(harness)
    entries = harness.raw_store.read_ledger()
    by_team = TotalsQuery(first_period=DAY, last_period=DAY, team="acme", dimensions=(Dimension.KEY,))
    assert await harness.store.sum_totals(by_team) == sum_by_dimensions(
        (entry for entry in entries if entry.team == "acme" and entry.day == DAY), (Dimension.KEY,)
    )
    some_hours = TotalsQuery(
        first_period=f"{DAY}T13", last_period=f"{NEXT_DAY}T07", dimensions=(Dimension.DAY, Dimension.TEAM)
    )
    assert await harness.store.sum_totals(some_hours) == sum_by_dimensions(
        (entry for entry in entries if (entry.day, entry.hour) in ((DAY, 18), (NEXT_DAY, 1), (NEXT_DAY, 7))),
        (Dimension.DAY, Dimension.TEAM),
    )


async def test_invalid_or_too_many_periods_are_rejected(harness: StoreHarness) -> None:
    periods = (("x", "y"), ("2040-02-30", "2040-03-01"), (f"{DAY}T24", f"{DAY}T25"), ("2040-01-01T00", "2040-03-01T00"))
    for first, last in periods:
        with pytest.raises(ValueError, match=r"day|Invalid|month|unconverted"):
            await harness.store.sum_totals(TotalsQuery(first_period=first, last_period=last))


async def test_changed_hours_are_repaired(harness: StoreHarness) -> None:
    await harness.create_settled_job(key_id=ODD_KEY_ID)
    hour = f"{DAY}T12"
    by_hour = TotalsQuery(first_period=hour, last_period=hour, dimensions=(Dimension.HOUR, Dimension.KEY))
    before = await harness.store.sum_totals(by_hour)
    assert before == (LineSum((hour, ODD_KEY_ID), LedgerLine.CAPTURE, PRICE, 1),)
    harness.raw_store.change_totals(hour, 123)
    reports = [await harness.store.audit(partition) for partition in harness.store.partitions]
    corrections = [total for report in reports for total in report.total_corrections]
    assert [(total.period, total.key_id, total.amount) for total in corrections] == [(hour, ODD_KEY_ID, -123)]
    assert await harness.store.sum_totals(by_hour) == before


async def test_hours_are_kept_as_long_as_the_entries(harness: StoreHarness) -> None:
    await harness.create_settled_job()
    harness.advance_time(Retention().ledger + 62 * DAY_SECONDS)
    await harness.store.delete_expired()
    assert await harness.store.sum_totals(HOURS) == ()
    assert [line_sum.amount for line_sum in await harness.store.sum_totals(DAYS)] == [PRICE]


async def test_irregular_entries_have_their_job_and_reason(harness: StoreHarness) -> None:
    await harness.create_settled_job(key_id="abcdefghij")
    job_id = await create_suspected_job(harness, key_id="abcdefghij")
    (entry,) = await harness.store.list_ledger_entries(DAY, is_irregular=True)
    assert (entry.job, entry.line, entry.reason) == (job_id, LedgerLine.SUSPECTED, FaultKind.ORDER_TIMED_OUT)
    assert (entry.key_id, entry.hour, entry.ticket) == ("abcdefghij", 12, "ticket-1")
    assert await harness.store.list_ledger_entries(DAY, "other", is_irregular=True) == ()


async def test_repaired_entry_is_listed_as_irregular(harness: StoreHarness) -> None:
    job = await harness.create_job(n=2)
    one_of_two = ImagesStored(attempt=1, images=(0,), made_count=2)
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), one_of_two)
    assert not job.is_settled
    before = await harness.store.list_ledger_entries(DAY, is_irregular=True)
    assert [entry.line for entry in before] == [LedgerLine.ORPHAN]
    assert harness.raw_store.delete_ledger_entries(job.id) == 2
    assert await harness.store.list_ledger_entries(DAY, is_irregular=True) == ()
    for partition in harness.store.partitions:
        await harness.store.audit(partition)
    assert await harness.store.list_ledger_entries(DAY, is_irregular=True) == before
