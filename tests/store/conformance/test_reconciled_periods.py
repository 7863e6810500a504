"""Reconciliation books nothing twice: not after entries have expired, and not at the edges of invoices."""

import random

import pytest

from gateway.jobs.job_update_types import AttemptAbandoned, ResponseLost
from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge, merge_charges
from gateway.ledger.invoice_sellers import select_sellers
from gateway.ledger.reconciliation import OrderFinding
from gateway.ledger.reconciliation_runner import Auditor, book_corrections, compare_charges, select_period
from gateway.store.base import DAY_SECONDS
from providers.faults import FaultKind
from tests.store import job_factory
from tests.store.job_factory import DAY, PRICE
from tests.store.store_harness import StoreHarness

SELLER = job_factory.ROUTE_ENTRY.seller
AUDITOR = Auditor("cli:tester", "testhost", random.Random(1).randbytes)  # noqa: S311


async def compare(
    harness: StoreHarness, *charges: SellerCharge, first_at: float | None = None, last_at: float | None = None
) -> tuple[OrderFinding, ...]:
    period = select_period(charges, harness.now, first_at, last_at)
    return await compare_charges(harness.store, select_sellers(SELLER, {SELLER: SELLER}), charges, period, harness.now)


async def book(harness: StoreHarness, findings: tuple[OrderFinding, ...]) -> int:
    return await book_corrections(harness.store, SELLER, findings, AUDITOR, harness.now)


async def test_period_whose_entries_have_expired_is_refused(harness: StoreHarness) -> None:
    job = await harness.create_settled_job()
    charge = SellerCharge(order_id="ticket-1", reference=f"{job.id}-1", amount=PRICE, images=1, charged_at=harness.now)
    totals = await harness.store.list_day_totals(DAY, DAY)
    harness.advance_time(86 * DAY_SECONDS)
    await harness.store.delete_expired()
    assert [finding.outcome for finding in await compare(harness, charge)] == ["matched"]
    # Younger than the retention of 90 days, but not by the days in which its order may have been created.
    for days in (1, 4, 10):
        harness.advance_time(days * DAY_SECONDS)
        await harness.store.delete_job(job.id)
        await harness.store.delete_expired()
        with pytest.raises(InvalidInvoice, match=r"choose --since 2040-\d\d-\d\d or later"):
            await compare(harness, charge)
    assert await harness.store.list_day_totals(DAY, DAY) == totals


async def test_period_whose_entries_one_team_no_longer_keeps_is_refused(harness: StoreHarness) -> None:
    """Totals stay, so it is known that entries are missing. Otherwise their charges would be booked again."""
    kept, deleted = [await harness.create_settled_job(team) for team in ("acme", "globex")]
    charges = [
        SellerCharge(order_id="", reference=f"{job.id}-1", amount=PRICE, images=1, charged_at=harness.now)
        for job in (kept, deleted)
    ]
    harness.advance_time(40 * DAY_SECONDS)
    later = await harness.create_settled_job("globex")
    charges.append(SellerCharge(order_id="", reference=f"{later.id}-1", amount=PRICE, images=1, charged_at=harness.now))
    harness.advance_time(2 * DAY_SECONDS)
    assert [finding.outcome for finding in await compare(harness, *charges)] == ["matched"] * 3
    await harness.store.delete_job(deleted.id)
    await harness.store.delete_ledger_entries(DAY, "globex")
    with pytest.raises(InvalidInvoice, match=rf"team 'globex' of {DAY} .* choose --since 2040-05-14 or later"):
        await compare(harness, *charges)
    first_at = job_factory.parse_utc_time("2040-05-14T00:00:00")
    findings = await compare(harness, charges[-1], first_at=first_at)
    assert [finding.outcome for finding in findings] == ["matched"]


async def test_charge_without_a_time_is_booked_once(harness: StoreHarness) -> None:
    first_at, last_at = harness.now - DAY_SECONDS, harness.now
    charge = SellerCharge(order_id="run-9", amount=7)
    harness.advance_time(2 * DAY_SECONDS)
    assert await book(harness, await compare(harness, charge, first_at=first_at, last_at=last_at)) == 1
    harness.advance_time(DAY_SECONDS)
    findings = await compare(harness, charge, first_at=first_at, last_at=last_at)
    assert [finding.outcome for finding in findings] == ["matched"]
    assert await book(harness, findings) == 0


async def test_order_at_midnight_is_found_on_the_invoice_before(harness: StoreHarness) -> None:
    """It was charged on the last day of April, and booked as suspected on the first day of May."""
    harness.clock.now = job_factory.parse_utc_time("2040-04-30T23:50:00")
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), ResponseLost(attempt=1))
    april = SellerCharge(order_id="run-1", reference=f"{job.id}-1", amount=PRICE, images=1, charged_at=harness.now + 5)
    harness.advance_time(1_200.0)
    await harness.apply_updates(job, AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.RESPONSE_LOST))
    may = SellerCharge(order_id="run-2", amount=1, charged_at=harness.now + 2 * DAY_SECONDS)
    harness.clock.now = job_factory.parse_utc_time("2040-06-05T00:00:00")
    first_at, last_at = (job_factory.parse_utc_time(f"2040-05-{end}") for end in ("01T00:00:00", "31T23:59:59"))
    assert [found.outcome for found in await compare(harness, may, first_at=first_at, last_at=last_at)] == [
        "missing here"
    ]
    both = await compare(harness, april, may, first_at=first_at, last_at=last_at)
    assert [found.outcome for found in both] == ["suspected, charged", "missing here"]
    assert [found.outcome for found in await compare(harness, april)] == ["suspected, charged"]
    assert await book(harness, both) == 2
    assert {found.outcome for found in await compare(harness, april, may)} == {"matched"}


async def test_named_period_ends_a_day_ago(harness: StoreHarness) -> None:
    """Younger orders may still be open, and the seller may list their charges later."""
    job = await harness.create_job()
    job = await harness.apply_updates(job, job_factory.make_attempt_started(job), ResponseLost(attempt=1))
    await harness.apply_updates(job, AttemptAbandoned(fence=1, attempt=1, fault=FaultKind.RESPONSE_LOST))
    charge = SellerCharge(order_id="run-2", amount=1, charged_at=harness.now)
    first_at, last_at = harness.now - DAY_SECONDS, harness.now + DAY_SECONDS
    findings = await compare(harness, charge, first_at=first_at, last_at=last_at)
    assert [finding.outcome for finding in findings] == ["outside of the period"]
    harness.advance_time(2 * DAY_SECONDS)
    findings = await compare(harness, charge, first_at=first_at, last_at=last_at)
    assert [finding.outcome for finding in findings] == ["missing here", "suspected, not charged"]


async def test_refund_on_a_later_invoice_is_booked_once_with_both(harness: StoreHarness) -> None:
    job = await harness.create_job()
    for update in (
        job_factory.make_attempt_started(job),
        job_factory.make_ticket_received(),
        job_factory.make_images_stored(job),
    ):
        job = await harness.apply_updates(job, update)
    may = SellerCharge(order_id="ticket-1", amount=PRICE, charged_at=harness.now)
    harness.advance_time(30 * DAY_SECONDS)
    june = SellerCharge(order_id="ticket-1", amount=-PRICE, charged_at=harness.now)
    harness.advance_time(2 * DAY_SECONDS)
    (both,) = merge_charges([may, june])
    for charge, outcome, booked in (
        (may, "matched", 0),
        (june, "invoice incomplete", 0),
        (both, "price differs", 1),
        (both, "matched", 0),
        (june, "invoice incomplete", 0),
        (may, "invoice incomplete", 0),
    ):
        findings = await compare(harness, charge)
        assert [finding.outcome for finding in findings] == [outcome]
        assert await book(harness, findings) == booked
    assert sum(total.amount for total in await harness.store.list_day_totals(DAY, DAY)) == 0
