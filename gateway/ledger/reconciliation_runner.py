"""Reconciles a seller's charges with the ledger of a store, and books the corrections."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job import Job, order_reference
from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge
from gateway.ledger.invoice_sellers import InvoiceSellers, add_former_sellers
from gateway.ledger.reconciliation import (
    MAX_ORDER_AGE_SECONDS,
    SETTLING_SECONDS,
    OrderFinding,
    Period,
    Reconciliation,
    group_orders,
    parse_reference,
)
from gateway.store.api_keys import AdminEvent, ApiKeyChange, make_event_id, make_table_version
from gateway.store.base import DAY_SECONDS, Store, StoreUnavailable
from gateway.store.ledger_totals import MAX_DAYS, list_days
from gateway.store.partitions import is_job_id

# Entries and the ids of corrections are deleted by the day. Those of the first kept day may be deleted meanwhile.
RETENTION_MARGIN_SECONDS = DAY_SECONDS
# Entries of older days do not change, unless they are deleted because their team keeps them for a shorter time.
UNCHANGED_AFTER_SECONDS = SETTLING_SECONDS + MAX_ORDER_AGE_SECONDS
MAX_TRIES = 10


class Auditor(Struct, frozen=True):
    """Who books corrections: the user, and the host."""

    actor: str
    source: str
    draw_bytes: Callable[[int], bytes]


def select_period(
    charges: Collection[SellerCharge], now: float, first_at: float | None = None, last_at: float | None = None
) -> Period:
    """Returns the given period; without it, the days of the charges. It ends a day ago at the latest: an order of the
    last day may still be open, so that the ledger does not have it yet. Raises InvalidInvoice."""
    times = [charge.charged_at for charge in charges if charge.charged_at is not None]
    if (first_at is None or last_at is None) and not times:
        raise InvalidInvoice("The invoice has no times: say with --since and --until which days it covers.")
    first = _get_day_start(min(times)) if first_at is None else first_at
    last = min(_get_day_start(max(times)) + DAY_SECONDS - 1 if last_at is None else last_at, now - SETTLING_SECONDS)
    if last - first > MAX_DAYS * DAY_SECONDS:
        raise InvalidInvoice("The invoice covers more than ten years: check the column of the time.")
    return Period(first, last)


async def compare_charges(
    store: Store, sellers: InvoiceSellers, charges: Iterable[SellerCharge], period: Period, now: float
) -> tuple[OrderFinding, ...]:
    """Compares the charges with the ledger. Changes nothing.

    Raises InvalidInvoice if every charge would be missing here, so that it would be booked again: the ledger does not
    have the whole period any more, the invoice is of another seller, or it names no order as the ledger does.
    """
    _require_kept_entries(store, period, now)
    charges = list(charges)
    entries = await _list_entries(store, period, charges, now)
    names = add_former_sellers(sellers, charges, entries)
    await _require_complete_days(store, [entry for entry in entries if entry.seller in names], names, period, now)
    orders = group_orders([entry for entry in entries if entry.seller in names])
    jobs = await _load_jobs(store, filter(period.contains, charges))
    reconciliation = Reconciliation(names[0], orders, jobs, now)
    reconciliation.require_comparable(charges, period)
    return tuple(reconciliation.compare(charges, period))


def _require_kept_entries(store: Store, period: Period, now: float) -> None:
    first_kept_day = _to_day(now - min(store.retention.ledger, store.retention.totals))
    margin = timedelta(seconds=MAX_ORDER_AGE_SECONDS + RETENTION_MARGIN_SECONDS)
    first_comparable_day = (date.fromisoformat(first_kept_day) + margin).isoformat()
    if _to_day(period.first_at) < first_comparable_day:
        raise InvalidInvoice(
            f"The period begins on {_to_day(period.first_at)}, and the ledger has its entries since {first_kept_day}"
            " (retention.ledger_days, totals_months)."
            f" Nothing was booked: choose --since {first_comparable_day} or later."
        )


async def _require_complete_days(
    store: Store, entries: Iterable[LedgerEntry], sellers: Collection[str], period: Period, now: float
) -> None:
    """Compares the entries with the totals, which stay when entries of a team are deleted before those of others."""
    last_at = min(period.last_at, now - UNCHANGED_AFTER_SECONDS)
    if last_at < period.first_order_at:
        return
    first_day, last_day = _to_day(period.first_order_at), _to_day(last_at)
    missing: Counter[tuple[str, str]] = Counter()
    for total in await store.list_day_totals(first_day, last_day):
        if total.account.seller in sellers:
            missing[total.day, total.account.team] += total.amount
    for entry in entries:
        missing[entry.day, entry.team] -= entry.amount
    if incomplete := sorted(key for key, amount in missing.items() if amount and first_day <= key[0] <= last_day):
        day, team = incomplete[-1]
        margin = timedelta(seconds=MAX_ORDER_AGE_SECONDS + DAY_SECONDS)
        raise InvalidInvoice(
            f"The ledger no longer has all entries of team '{team}' of {day} (teams.{team}.retention.ledger_days)."
            f" Nothing was booked: choose --since {(date.fromisoformat(day) + margin).isoformat()} or later."
        )


async def _list_entries(store: Store, period: Period, charges: Iterable[SellerCharge], now: float) -> list[LedgerEntry]:
    """Lists the entries of the period, and those of orders before it that the charges name."""
    names = {name for charge in charges for name in (charge.order_id, charge.reference) if name}
    # A day more: clocks of sellers differ.
    first, last = (_to_day(at) for at in (period.first_order_at, period.last_at + DAY_SECONDS))
    return [
        entry
        for day in list_days(_to_day(now - store.retention.ledger), last)
        for entry in await store.list_ledger_entries(day)
        if day >= first or entry.ticket in names or order_reference(entry.job, entry.attempt) in names
    ]


async def _load_jobs(store: Store, charges: Iterable[SellerCharge]) -> dict[str, Job]:
    """Loads the jobs that charges name, as far as they are still stored."""
    job_ids = {parse_reference(charge.reference)[0] for charge in charges}
    jobs = [await store.load_job(job_id) for job_id in sorted(job_ids) if is_job_id(job_id)]
    return {job.id: job for job in jobs if job is not None}


async def book_corrections(
    store: Store, seller: str, findings: Iterable[OrderFinding], auditor: Auditor, now: float
) -> int:
    """Books the corrections that were not booked before, with an admin event. Returns how many."""
    booked: Counter[str] = Counter()
    amount = 0
    for finding in findings:
        if finding.correction is not None and await store.post_correction(finding.correction):
            booked[finding.outcome] += 1
            amount += sum(entry.amount for entry in finding.correction.entries)
    if booked:
        await _record_event(store, auditor, {"seller": seller, "micros": amount, **booked}, now)
    return booked.total()


async def _record_event(store: Store, auditor: Auditor, details: dict[str, object], now: float) -> None:
    event = AdminEvent(
        id=make_event_id(now, auditor.draw_bytes(6).hex()),
        at=now,
        action="ledger_corrected",
        actor=auditor.actor,
        source=auditor.source,
        details=details,
    )
    for _ in range(MAX_TRIES):
        table = await store.api_keys.load_table()
        if table is None:
            break
        version = make_table_version(auditor.draw_bytes)
        if await store.api_keys.change_table(
            ApiKeyChange(expected_version=table.version, version=version, event=event)
        ):
            return
    raise StoreUnavailable("The corrections are booked, but their admin event could not be recorded.")


def _get_day_start(timestamp: float) -> float:
    return timestamp // DAY_SECONDS * DAY_SECONDS


def _to_day(timestamp: float) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=timestamp)).date().isoformat()
