"""A month of generated traffic: ledger, totals, usage, budgets and the seller's invoice agree to the micro-USD."""

import random
from collections import Counter
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job import order_reference
from gateway.jobs.job_update_types import AttemptAbandoned, ImagesStored, JobUpdate, OrderFailed, TicketReceived
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.invoice_file import SellerCharge
from gateway.ledger.reconciliation import ReconciliationOutcome, count_outcomes
from gateway.ledger.reconciliation_runner import Auditor, book_corrections, compare_charges, select_period
from gateway.ledger.report import build_report
from gateway.ledger.report_options import ReportOptions
from gateway.store.ledger_sums import Dimension
from gateway.store.ledger_totals import Correction, sum_entries
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.job_factory import PRICE
from tests.store.store_harness import StoreHarness

SEED, JOBS, DAYS = 20_261_128, 90, 31
TEAMS = ("acme", "design", "marketing")
FIRST_MOMENT = job_factory.parse_utc_time("2040-05-01T00:00:00")
MONTH_END = FIRST_MOMENT + DAYS * 86_400.0
SELLER = job_factory.ROUTE_ENTRY.seller
# Ends of orders with their weights, and the findings that follow.
WEIGHTS = {"delivered": 30, "partial": 8, "free": 8, "suspected": 12, "innocent": 10, "dearer": 6, "cheaper": 6}
WEIGHTS |= {"twice": 6, "expensive": 4}
SURPRISES = {
    "suspected": ReconciliationOutcome.SUSPECTED_CHARGED,
    "innocent": ReconciliationOutcome.SUSPECTED_NOT_CHARGED,
    "dearer": ReconciliationOutcome.PRICE_DIFFERS,
    "cheaper": ReconciliationOutcome.PRICE_DIFFERS,
    "twice": ReconciliationOutcome.MISSING_HERE,
}
WEEKS = [(f"2040-05-{first:02}", f"2040-05-{min(first + 6, DAYS):02}") for first in range(1, DAYS + 1, 7)]
AUDITOR = Auditor("cli:tester", "testhost", lambda length: bytes(length))


class Traffic(Struct):
    """The seller's invoice of a month, and the findings to be expected from it."""

    charges: list[SellerCharge]
    surprises: Counter[ReconciliationOutcome]


async def generate_month(harness: StoreHarness) -> Traffic:
    """Creates jobs through commits. The seller charges twice, or another price, or not at all, now and then."""
    draw = random.Random(SEED)  # noqa: S311
    traffic = Traffic(charges=[], surprises=Counter())
    for number in range(JOBS):
        harness.clock.now = FIRST_MOMENT + (number + draw.random()) * DAYS * 86_400.0 / JOBS
        await create_order(harness, draw, traffic, f"run-{number}")
    traffic.charges.append(SellerCharge(order_id="run-of-another-client", amount=7, images=1, charged_at=harness.now))
    traffic.surprises[ReconciliationOutcome.MISSING_HERE] += 1
    draw.shuffle(traffic.charges)
    harness.advance_time(MONTH_END - harness.now)
    return traffic


def end_order(kind: str, n: int, cost: int) -> tuple[JobUpdate, int | None]:
    """Returns how an order ends, and what the seller charges for it."""
    delivered = ImagesStored(attempt=1, images=tuple(range(n)), cost=cost)
    match kind:
        case "partial":
            return ImagesStored(attempt=1, images=(0,), made_count=n, cost=cost), cost
        case "free":
            return OrderFailed(attempt=1, fault=FaultKind.ORDER_FAILED), None
        case "suspected" | "innocent":
            lost = AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.ORDER_TIMED_OUT)
            return lost, cost if kind == "suspected" else None
        case "expensive":
            return replace(delivered, cost=10 * PRICE * n), 10 * PRICE * n
        case "dearer" | "cheaper":
            return delivered, cost + (1 if kind == "dearer" else -1)
    return delivered, cost


async def create_order(harness: StoreHarness, draw: random.Random, traffic: Traffic, ticket: str) -> None:
    n, cost = draw.randint(1, 3), draw.randrange(30_000, 50_000)
    team, key_id = draw.choice(TEAMS), draw.choice(("", "abcdefghij", "klmnopqrst"))
    job = await harness.create_job(team, n=n, key_id=key_id, max_attempts=1)
    job = await harness.apply_updates(
        job,
        job_factory.make_attempt_started(job),
        TicketReceived(attempt=1, ticket=ticket),
    )
    kind = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    update, charged = end_order(kind, n, cost * n)
    if kind in SURPRISES:
        traffic.surprises[SURPRISES[kind]] += 1
    job = await harness.apply_updates(job, update)
    if charged is not None:
        charge = SellerCharge(
            order_id=ticket,
            reference=order_reference(job.id, 1),
            amount=charged,
            images=n,
            charged_at=harness.now,
        )
        traffic.charges.append(charge)
        if kind == "twice":
            traffic.charges.append(replace(charge, order_id=f"{ticket}-again"))


async def expect_agreement(harness: StoreHarness) -> Counter[LedgerLine]:
    """Expects ledger, totals of days and hours, usage, budgets and audit to agree. Returns the sums of the lines."""
    entries = harness.raw_store.read_ledger()
    lines = sum_lines(entries)
    days = await harness.store.list_day_totals("2040-05-01", "2040-05-31")
    expected = {key: total for key, total in sum_entries(entries).items() if not total.is_hourly}
    assert {total.key: total for total in days} == expected
    for group_by in ((), ("team", "key"), ("day", "seller", "model", "cell")):
        assert await read_usage(harness, group_by, ("2040-05-01", "2040-05-31")) == lines
    for group_by in (("hour",), tuple(Dimension)):
        usage: Counter[LedgerLine] = Counter()
        for week in WEEKS:
            usage.update(await read_usage(harness, group_by, week))
        assert usage == lines
    spent = [(await harness.store.load_balances(team, "2040-05"))["2040-05"].spent for team in TEAMS]
    assert sum(spent) == lines[LedgerLine.CAPTURE]
    reports = [await harness.store.audit(partition, repair=False) for partition in harness.store.partitions]
    assert [list(report.describe()) for report in reports if report.discrepancy_count] == []
    return lines


async def read_usage(harness: StoreHarness, group_by: tuple[str, ...], period: tuple[str, str]) -> Counter[LedgerLine]:
    """Returns the total of a report, by line."""
    query = ReportOptions(since=period[0], until=period[1], group_by=group_by).to_query(harness.now)
    total = build_report(query, await harness.store.sum_totals(query)).total
    return Counter(
        {
            LedgerLine.CAPTURE: total.spend,
            LedgerLine.ORPHAN: total.orphaned,
            LedgerLine.SUSPECTED: total.suspected,
            LedgerLine.EXCESS: total.excess,
        }
    )


def sum_lines(entries: Iterable[LedgerEntry]) -> Counter[LedgerLine]:
    lines: Counter[LedgerLine] = Counter()
    for entry in entries:
        lines[entry.line] += entry.amount
    return lines


async def test_month_agrees_with_the_invoice_after_corrections(harness: StoreHarness) -> None:
    traffic = await generate_month(harness)
    invoiced = sum(charge.amount for charge in traffic.charges)
    before = await expect_agreement(harness)
    assert traffic.surprises.keys() == {*SURPRISES.values()}, "the seed is too tame"
    assert before.total() - before[LedgerLine.SUSPECTED] != invoiced
    period = select_period(traffic.charges, harness.now, FIRST_MOMENT, MONTH_END)
    findings = await compare_charges(harness.store, [SELLER], traffic.charges, period, harness.now)
    counts = count_outcomes(findings)
    assert {outcome: counts[outcome] for outcome in traffic.surprises} == traffic.surprises
    assert await book_corrections(harness.store, SELLER, findings, AUDITOR, harness.now) == traffic.surprises.total()
    after = await expect_agreement(harness)
    assert (after[LedgerLine.SUSPECTED], after.total()) == (0, invoiced)
    assert after[LedgerLine.CAPTURE] == before[LedgerLine.CAPTURE], "what teams paid is unchanged"
    (event,) = (await harness.store.api_keys.list_events()).events
    assert (event.action, event.actor, event.details["seller"]) == ("ledger_corrected", "cli:tester", SELLER)

    # Once more: the same corrections, and a new comparison.
    stored = harness.raw_store.dump_everything()
    assert await book_corrections(harness.store, SELLER, findings, AUDITOR, harness.now) == 0
    findings = await compare_charges(harness.store, [SELLER], traffic.charges, period, harness.now)
    assert count_outcomes(findings) == {ReconciliationOutcome.MATCHED: len(traffic.charges)}
    assert await book_corrections(harness.store, SELLER, findings, AUDITOR, harness.now) == 0
    assert harness.raw_store.dump_everything() == stored


async def test_audit_accepts_corrections_of_an_open_job(harness: StoreHarness) -> None:
    """The audit compares open jobs with the ledger: it must not undo what no commit of the job has booked."""
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job))
    assert not job.is_settled
    charge = SellerCharge(order_id="run-1", reference=f"{job.id}-9", amount=5, charged_at=harness.now)
    period = select_period([charge], harness.now, harness.now, harness.now)
    findings = await compare_charges(harness.store, [SELLER], [charge], period, harness.now)
    assert await book_corrections(harness.store, SELLER, findings, AUDITOR, harness.now) == 1
    (entry,) = await harness.store.list_ledger_entries(job_factory.DAY, is_irregular=True)
    assert (entry.job, entry.team, entry.amount) == (job.id, "acme", 5)
    reports = [await harness.store.audit(partition) for partition in harness.store.partitions]
    assert sum(report.discrepancy_count for report in reports) == 0
    assert not await harness.store.post_correction(Correction(id=entry.correction, entries=(entry,)))
