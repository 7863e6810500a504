"""Reconciles a seller's charges with the ledger of a store, and books the corrections."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job import Job
from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge
from gateway.ledger.reconciliation import OrderFinding, Reconciliation, group_orders, parse_reference
from gateway.store.api_keys import AdminEvent, ApiKeyChange, make_event_id, make_table_version
from gateway.store.base import DAY_SECONDS, Store, StoreUnavailable
from gateway.store.ledger_totals import MAX_DAYS, list_days
from gateway.store.partitions import is_job_id

# An order may be charged so much later than its job was created.
MAX_ORDER_AGE_SECONDS = 3 * DAY_SECONDS
# An order of the last day may still be open, so that the ledger does not have it yet.
SETTLING_SECONDS = DAY_SECONDS
MAX_TRIES = 10


class Period(Struct, frozen=True):
    """From when to when the charges are compared, in seconds since 1970, both included."""

    first_at: float
    last_at: float

    def contains(self, charge: SellerCharge) -> bool:
        return charge.charged_at is None or self.first_at <= charge.charged_at <= self.last_at


class Auditor(Struct, frozen=True):
    """Who books corrections: the user, and the host."""

    actor: str
    source: str
    draw_bytes: Callable[[int], bytes]


def select_period(
    charges: Collection[SellerCharge], now: float, first_at: float | None = None, last_at: float | None = None
) -> Period:
    """Returns the given period; without it, that of the charges, up to a day ago. Raises InvalidInvoice."""
    times = [charge.charged_at for charge in charges if charge.charged_at is not None]
    if (first_at is None or last_at is None) and not times:
        raise InvalidInvoice("The invoice has no times: say with --since and --until which days it covers.")
    first = min(times) if first_at is None else first_at
    last = min(max(times), now - SETTLING_SECONDS) if last_at is None else last_at
    if last - first > MAX_DAYS * DAY_SECONDS:
        raise InvalidInvoice("The invoice covers more than ten years: check the column of the time.")
    return Period(first, last)


async def compare_charges(
    store: Store, sellers: Sequence[str], charges: Iterable[SellerCharge], period: Period, now: float
) -> tuple[OrderFinding, ...]:
    """Compares the charges of the period with the ledger. Changes nothing.

    `sellers`: those with the same account, whose orders may be on the same invoice. Charges that the ledger does not
    have belong to the first one.
    """
    compared = [charge for charge in charges if period.contains(charge)]
    orders = group_orders([entry for entry in await _list_entries(store, period) if entry.seller in sellers])
    jobs = await _load_jobs(store, compared)
    reconciliation = Reconciliation(sellers[0], orders, jobs, now)
    return tuple(reconciliation.compare(compared, period.first_at, period.last_at))


async def _list_entries(store: Store, period: Period) -> list[LedgerEntry]:
    first, last = (_to_day(at) for at in (period.first_at - MAX_ORDER_AGE_SECONDS, period.last_at))
    return [entry for day in list_days(first, last) for entry in await store.list_ledger_entries(day)]


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


def _to_day(timestamp: float) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(seconds=timestamp)).date().isoformat()
