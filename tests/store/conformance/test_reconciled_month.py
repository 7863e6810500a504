"""A month of generated traffic: ledger, totals, usage, budgets and invoices of sellers agree to the micro-USD."""

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.jobs.commit import LedgerEntry
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.finding_summary import count_outcomes
from gateway.ledger.invoice_file import SellerCharge, read_invoices
from gateway.ledger.invoice_sellers import select_sellers
from gateway.ledger.reconciliation import UNKNOWN, OrderFinding, ReconciliationOutcome
from gateway.ledger.reconciliation_runner import Auditor, book_corrections, compare_charges, select_period
from gateway.ledger.report_json import serialize_report
from gateway.ledger.report_options import ReportOptions
from gateway.ledger.report_reader import load_report
from gateway.money import MICROS_PER_USD
from gateway.store.base import DAY_SECONDS
from gateway.store.ledger_sums import Dimension
from gateway.store.ledger_totals import EMPTY_BALANCE, Correction, sum_entries
from tests.harness.gateway_runner import CONFIG
from tests.harness.memory_store.memory_ledger import compute_balances
from tests.store import job_factory
from tests.store.generated_traffic import (
    DAYS,
    FIRST_MOMENT,
    MONTH,
    MONTH_END,
    SELLERS,
    TEAMS,
    GeneratedMonth,
    PlannedJob,
)
from tests.store.store_harness import StoreHarness

SEED, SMALL_MONTH = 20_261_128, 150
LARGE_MONTHS = {"sqlite": 20_000, "memory": 20_000, "single": 2_000, "clustered": 2_000, "valkey": 2_000}
JOBS_AT_ONCE = 100
RUNAPI = job_factory.ROUTE_ENTRY.seller
FIRST_DAY, LAST_DAY = f"{MONTH}-01", f"{MONTH}-{DAYS}"
# Hours are reported for a week at most.
WEEKS = [(f"{MONTH}-{first:02}", f"{MONTH}-{min(first + 6, DAYS):02}") for first in range(1, DAYS + 1, 7)]
LINE_BY_COLUMN = {
    "spend": LedgerLine.CAPTURE,
    "orphaned": LedgerLine.ORPHAN,
    "suspected": LedgerLine.SUSPECTED,
    "excess": LedgerLine.EXCESS,
}
# A whole month, of which everything is settled, has no others.
DEVIATIONS = {
    ReconciliationOutcome.SUSPECTED_CHARGED,
    ReconciliationOutcome.SUSPECTED_NOT_CHARGED,
    ReconciliationOutcome.MISSING_HERE,
    ReconciliationOutcome.MISSING_THERE,
    ReconciliationOutcome.PRICE_DIFFERS,
}
AUDITOR = Auditor("cli:tester", "testhost", random.Random(SEED).randbytes)  # noqa: S311
# Micro-USD by team, seller and line.
Sums = Counter[tuple[str, str, LedgerLine]]


def test_month_agrees_with_the_invoices_after_corrections(harness: StoreHarness, tmp_path: Path) -> None:
    expect_agreeing_month(harness, tmp_path, SMALL_MONTH)


@pytest.mark.thorough
def test_large_month_agrees_with_the_invoices_after_corrections(harness: StoreHarness, tmp_path: Path) -> None:
    expect_agreeing_month(harness, tmp_path, LARGE_MONTHS[harness.store_kind])


def expect_agreeing_month(harness: StoreHarness, folder: Path, job_count: int) -> None:
    month = GeneratedMonth(SEED, job_count)
    assert set().union(*month.findings.values()) == DEVIATIONS, "the seed is too tame"
    harness.run_async(store_jobs(harness, month.jobs))
    before = harness.run_async(expect_agreement(harness))
    assert before == month.lines
    # Until then, orders of the last day may be charged.
    harness.clock.now = MONTH_END + 2 * DAY_SECONDS
    harness.run_async(reconcile_all(harness, month))
    after = harness.run_async(expect_agreement(harness))
    for seller in SELLERS:
        assert sum_lines(after, seller) == month.sum_invoice(seller) + month.unbilled[seller]
    assert sum_lines(after, line=LedgerLine.SUSPECTED) == 0
    for key in {*before, *after}:
        assert key[2] is not LedgerLine.CAPTURE or after[key] == before[key], "what teams paid is unchanged"
    if harness.store_kind == "sqlite":
        harness.run_async(harness.store.close())
        assert read_command_sums(folder) == after


async def store_jobs(harness: StoreHarness, jobs: list[PlannedJob]) -> None:
    for start in range(0, len(jobs), JOBS_AT_ONCE):
        harness.clock.now = jobs[start].commit.committed_at
        await job_factory.gather_all(store_job(harness, job) for job in jobs[start : start + JOBS_AT_ONCE])
    harness.clock.now = MONTH_END


async def store_job(harness: StoreHarness, planned_job: PlannedJob) -> None:
    job = await harness.apply_commit(planned_job.commit)
    for at, update in planned_job.updates:
        job = await harness.apply_commit(job_factory.make_update_commit(job, update, at))
    assert job.is_settled


async def expect_agreement(harness: StoreHarness) -> Sums:
    """Expects ledger, totals of days and hours, usage, budgets and audit to agree. Returns the sums of the ledger."""
    entries = harness.raw_store.read_ledger()
    sums = sum_ledger(entries)
    days = await harness.store.list_day_totals(FIRST_DAY, LAST_DAY)
    expected = {key: total for key, total in sum_entries(entries).items() if not total.is_hourly}
    assert {total.key: total for total in days} == expected
    for further in ((), ("key",), ("day", "model", "cell")):
        assert await read_usage(harness, further, (FIRST_DAY, LAST_DAY)) == sums
    for further in (("hour",), tuple(Dimension)[1:]):
        hourly: Sums = Counter()
        for week in WEEKS:
            # A sum of counters leaves out what is negative.
            hourly.update(await read_usage(harness, further, week))
        assert hourly == sums
    for team in (*TEAMS, UNKNOWN):
        own = Counter({key: amount for key, amount in sums.items() if key[0] == team})
        assert await read_usage(harness, ("day",), (FIRST_DAY, LAST_DAY), team) == own
    balances = {key: found for key, found in harness.raw_store.read_balances().items() if found != EMPTY_BALANCE}
    assert balances == compute_balances((), entries)
    reports = [await harness.store.audit(partition, repair=False) for partition in harness.store.partitions]
    assert [list(report.describe()) for report in reports if report.discrepancy_count] == []
    return sums


async def read_usage(
    harness: StoreHarness, further: tuple[str, ...], period: tuple[str, str], team: str | None = None
) -> Sums:
    """Returns the sums of a report as `GET /v1/usage` sends it, grouped by team, seller and further dimensions."""
    group_by = tuple(dict.fromkeys(("team", "seller", *further)))
    options = ReportOptions(since=period[0], until=period[1], group_by=group_by, team=team)
    report = await load_report(harness.store, options, harness.now)
    body = json.loads(msgspec.json.encode(serialize_report(report)), parse_float=Decimal)
    sums = sum_rows(body["data"])
    for column, line in LINE_BY_COLUMN.items():
        assert to_micros(body["total"][column]) == sum_lines(sums, line=line)
    return sums


def read_command_sums(folder: Path) -> Sums:
    """Returns the sums of `image-gateway ledger --csv`."""
    options = ["--since", FIRST_DAY, "--until", LAST_DAY, "--group-by", "day,team,seller,key", "--csv"]
    environ = {"IGW_CONFIG": str(CONFIG), "IGW_DATA": str(folder), "IGW_URL": None, "REDIS_URL": None}
    result = CliRunner().invoke(main, ["ledger", *options], env=environ)
    assert result.exit_code == 0, result.output
    return sum_rows(csv.DictReader(io.StringIO(result.stdout)))


def sum_rows(rows: Iterable[Mapping[str, Any]]) -> Sums:
    sums: Sums = Counter()
    for row in rows:
        for column, line in LINE_BY_COLUMN.items():
            sums[row["team"], row["seller"], line] += to_micros(row[column])
    return sums


def to_micros(usd: Decimal | str) -> int:
    micros = Decimal(usd) * MICROS_PER_USD
    assert micros == int(micros)
    return int(micros)


def sum_ledger(entries: Iterable[LedgerEntry]) -> Sums:
    sums: Sums = Counter()
    for entry in entries:
        sums[entry.team, entry.seller, entry.line] += entry.amount
    return sums


def sum_lines(sums: Sums, seller: str | None = None, line: LedgerLine | None = None) -> int:
    return sum(amount for key, amount in sums.items() if seller in (None, key[1]) and line in (None, key[2]))


async def reconcile_all(harness: StoreHarness, month: GeneratedMonth) -> None:
    """Reconciles with all invoices: finds exactly the deviations, and books each correction once."""
    all_findings: dict[str, tuple[OrderFinding, ...]] = {}
    invoices = {seller: read_invoices([("invoice", month.write_invoice(seller))]) for seller in SELLERS}
    for seller, charges in invoices.items():
        assert sum(charge.amount for charge in charges) == month.sum_invoice(seller)
        all_findings[seller] = await compare(harness, seller, charges)
        deviations = count_deviations(all_findings[seller])
        assert deviations == month.findings[seller]
        correctable = deviations.total() - deviations[ReconciliationOutcome.MISSING_THERE]
        assert await book(harness, seller, all_findings[seller]) == correctable
    events = (await harness.store.api_keys.list_events()).events
    assert {(event.action, event.actor, event.details["seller"]) for event in events} == {
        ("ledger_corrected", "cli:tester", seller) for seller in SELLERS
    }
    # Once more: the same corrections, and a new comparison.
    stored = harness.raw_store.dump_everything()
    for seller, charges in invoices.items():
        assert await book(harness, seller, all_findings[seller]) == 0
        findings = await compare(harness, seller, charges)
        assert count_deviations(findings).keys() <= {ReconciliationOutcome.MISSING_THERE}
        assert sum(finding.charged - finding.booked for finding in findings) == -month.unbilled[seller]
        assert await book(harness, seller, findings) == 0
    assert harness.raw_store.dump_everything() == stored


async def compare(harness: StoreHarness, seller: str, charges: tuple[SellerCharge, ...]) -> tuple[OrderFinding, ...]:
    period = select_period(charges, harness.now, FIRST_MOMENT, MONTH_END + DAY_SECONDS)
    return await compare_charges(harness.store, select_sellers(seller, {seller: seller}), charges, period, harness.now)


async def book(harness: StoreHarness, seller: str, findings: tuple[OrderFinding, ...]) -> int:
    return await book_corrections(harness.store, seller, findings, AUDITOR, harness.now)


def count_deviations(findings: tuple[OrderFinding, ...]) -> Counter[ReconciliationOutcome]:
    counts = Counter(count_outcomes(findings))
    del counts[ReconciliationOutcome.MATCHED]
    return counts


async def test_audit_accepts_corrections_of_an_open_job(harness: StoreHarness) -> None:
    """The audit compares open jobs with the ledger: it must not undo what no commit of the job has booked."""
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    assert not job.is_settled
    charge = SellerCharge(order_id="run-1", reference=f"{job.id}-9", amount=5, charged_at=harness.now)
    period = select_period([charge], harness.now + DAY_SECONDS, harness.now, harness.now)
    findings = await compare_charges(
        harness.store, select_sellers(RUNAPI, {RUNAPI: RUNAPI}), [charge], period, harness.now
    )
    assert await book_corrections(harness.store, RUNAPI, findings, AUDITOR, harness.now) == 1
    (entry,) = await harness.store.list_ledger_entries(job_factory.DAY, is_irregular=True)
    assert (entry.job, entry.team, entry.amount) == (job.id, "acme", 5)
    reports = [await harness.store.audit(partition) for partition in harness.store.partitions]
    assert sum(report.discrepancy_count for report in reports) == 0
    assert not await harness.store.post_correction(Correction(id=entry.correction, entries=(entry,)))
