"""Compares what a seller charged with the ledger, order by order, and makes the corrections. Pure.

A correction is made from the difference between both, so a second run finds nothing to correct.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from gateway.jobs.budgets import list_budget_windows
from gateway.jobs.commit import LedgerEntry, get_hour
from gateway.jobs.job import Job, order_reference
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.invoice_file import InvalidInvoice, SellerCharge, merge_charges
from gateway.store.ledger_totals import Correction
from providers.orders import Cell, Operation

UNKNOWN, UNKNOWN_CELL = "unknown", Cell(Operation.GENERATE, "unknown", "unknown")
_REFERENCE = re.compile(r"(job_[0-9a-z]{28})-(\d{1,4})", re.ASCII)
CHARGED_REASON, NOT_CHARGED_REASON, PRICE_REASON = "invoice_charged", "invoice_not_charged", "invoice_price"

# An order may be charged so much later than its job was created.
MAX_ORDER_AGE_SECONDS = 3 * 86_400.0
# So long after it was booked, an order may get further entries, and a seller may charge one that was given up.
SETTLING_SECONDS = 86_400.0


class Period(Struct, frozen=True):
    """The time whose charges are all on the compared invoices, in seconds since 1970, both ends included."""

    first_at: float
    last_at: float

    @property
    def first_order_at(self) -> float:
        """From when the jobs may be that were charged in the period."""
        return self.first_at - MAX_ORDER_AGE_SECONDS

    def contains(self, charge: SellerCharge) -> bool:
        return charge.charged_at is None or self.first_at <= charge.charged_at <= self.last_at


class ReconciliationOutcome(StrEnum):
    """How the charge of an order compares with the ledger."""

    MATCHED = "matched"
    SUSPECTED_CHARGED = "suspected, charged"
    SUSPECTED_NOT_CHARGED = "suspected, not charged"
    MISSING_HERE = "missing here"
    MISSING_THERE = "missing there"
    PRICE_DIFFERS = "price differs"
    INVOICE_INCOMPLETE = "invoice incomplete"
    IN_PROGRESS = "in progress"
    OUTSIDE_PERIOD = "outside of the period"


class LedgerOrder(Struct, kw_only=True):
    """The entries of one order. `first`: its first entry. `last_posted_at`: of its last one besides corrections.
    `corrected_until`: the time of the last charge that a correction was made from."""

    first: LedgerEntry
    last_posted_at: float
    corrected_until: float = -math.inf
    ticket: str = ""
    amounts: Counter[LedgerLine] = field(default_factory=Counter)
    images: Counter[LedgerLine] = field(default_factory=Counter)

    @property
    def booked(self) -> int:
        """The amount that was certainly charged."""
        return self.amounts.total() - self.suspected

    @property
    def suspected(self) -> int:
        return self.amounts[LedgerLine.SUSPECTED]

    @property
    def first_charge_at(self) -> float:
        """Since when the seller may have charged it."""
        day = datetime.fromisoformat(self.first.day).replace(tzinfo=UTC)
        return (day + timedelta(hours=self.first.hour or 0)).timestamp()

    @property
    def last_charge_at(self) -> float:
        """Until when the seller may have charged it."""
        return self.last_posted_at + SETTLING_SECONDS

    def is_within(self, period: Period) -> bool:
        """Whether the seller can have charged it neither before nor after the period."""
        return period.first_at <= self.first_charge_at and self.last_charge_at <= period.last_at

    def overlaps(self, period: Period) -> bool:
        return self.first_charge_at <= period.last_at and period.first_at <= self.last_charge_at

    @property
    def reference(self) -> str:
        return order_reference(self.first.job, self.first.attempt) if self.first.attempt else ""


class OrderFinding(Struct, frozen=True, kw_only=True):
    """An order, with what the seller charged and what the ledger has, in micro-USD. `correction`: None if there is
    nothing to book, or if it is not known what is right."""

    outcome: ReconciliationOutcome
    order_id: str
    job: str = ""
    charged: int = 0
    booked: int = 0
    suspected: int = 0
    correction: Correction | None = None


def group_orders(entries: Iterable[LedgerEntry]) -> list[LedgerOrder]:
    """Groups entries by order. Attempt 0 is a charge without an order of the gateway, found by its ticket. If there is
    an order with this ticket, the charge belongs to it: it was booked when only the charge was compared."""
    orders: dict[tuple[str, int] | str, LedgerOrder] = {}
    by_ticket: dict[str, LedgerOrder] = {}
    for entry in sorted(entries, key=lambda entry: entry.attempt == 0):
        order = orders.get((entry.job, entry.attempt)) if entry.attempt else by_ticket.get(entry.ticket)
        if order is None:
            order = LedgerOrder(first=entry, last_posted_at=entry.posted_at)
            orders[(entry.job, entry.attempt) if entry.attempt else entry.ticket] = order
        if not entry.correction:
            order.last_posted_at = max(order.last_posted_at, entry.posted_at)
        if entry.charged_at is not None:
            order.corrected_until = max(order.corrected_until, entry.charged_at)
        order.ticket = entry.ticket or order.ticket
        order.amounts[entry.line] += entry.amount
        order.images[entry.line] += entry.images
        if order.ticket:
            by_ticket[order.ticket] = order
    return list(orders.values())


def parse_reference(reference: str) -> tuple[str, int]:
    """Returns the job and the attempt of a reference; an empty text and 0 if it is not one of the gateway."""
    match = _REFERENCE.fullmatch(reference)
    return (match[1], int(match[2])) if match else ("", 0)


class Reconciliation:
    """Compares the charges of one seller with its orders in the ledger."""

    def __init__(self, seller: str, orders: Iterable[LedgerOrder], jobs: Mapping[str, Job], now: float) -> None:
        """`jobs`: those that the references of charges name and that are still stored. They say whose a charge is, and
        whether its order is still open: then the ledger has nothing of it yet."""
        self._seller, self._now = seller, now
        self._orders, self._jobs = list(orders), jobs
        self._by_ticket = {order.ticket: order for order in self._orders if order.ticket}
        self._by_reference = {order.reference: order for order in self._orders if order.reference}
        self._by_job = {order.first.job: order for order in self._orders if order.first.job}

    def compare(self, charges: Iterable[SellerCharge], period: Period) -> Iterator[OrderFinding]:
        """Yields a finding for each charge, and for each order without one.

        All charges are matched, since the gateway and the seller may count an order to different days. The period
        applies to those that remain: their counterpart may be on another invoice.
        """
        seen: set[int] = set()
        for charge, order in self._match_orders(self._assign_charges(list(charges), period)):
            if order is not None:
                seen.add(id(order))
                yield self._compare_order(charge, order, period)
            elif not period.contains(charge):
                yield _report_without_correction(ReconciliationOutcome.OUTSIDE_PERIOD, charge)
            elif charge.amount:
                yield self._report_unknown(charge, period)
        for order in self._orders:
            if id(order) not in seen and order.is_within(period) and (order.booked or order.suspected):
                yield self._report_uncharged(order)

    def require_comparable(self, charges: Collection[SellerCharge], period: Period) -> None:
        """Raises InvalidInvoice if orders without an id of the seller may be those of charges without a reference of
        the gateway: each order would be missing there, and its charge missing here."""
        references = {charge.reference for charge in charges} - {""}
        is_unclear = any(
            charge.amount > 0
            and (charge.order_id or charge.reference) not in self._by_ticket
            and not parse_reference(charge.reference)[0]
            for charge in charges
        )
        nameless = [order for order in self._orders if order.booked and not order.ticket and order.overlaps(period)]
        unmatched = [order for order in nameless if order.reference not in references]
        if is_unclear and unmatched:
            raise InvalidInvoice(
                f"{len(unmatched)} orders of {unmatched[0].first.seller} have no id of the seller in the ledger, and "
                "charges have no reference of the gateway, so they cannot be compared. Nothing was booked. Compare the "
                "sums of days: image-gateway ledger --group-by day,seller."
            )

    def _assign_charges(self, charges: list[SellerCharge], period: Period) -> Iterable[SellerCharge]:
        """Assigns charges with ids of another kind, such as those of transactions, to the order of their reference:
        all charges if no id is a ticket, although the tickets of these orders are known; otherwise refunds."""
        referenced = [order for charge in charges if (order := self._by_reference.get(charge.reference))]
        has_tickets = any(charge.order_id in self._by_ticket for charge in charges)
        if not has_tickets and any(order.ticket and order.is_within(period) for order in referenced):
            return merge_charges(
                replace(charge, order_id="") if parse_reference(charge.reference)[0] else charge for charge in charges
            )
        ids = {
            charge.reference: charge.order_id
            for charge in sorted(charges, key=lambda charge: charge.order_id not in self._by_ticket)
            if charge.amount > 0 and charge.reference
        }
        return merge_charges(
            replace(charge, order_id=ids.get(charge.reference, charge.order_id))
            if charge.amount < 0 and charge.order_id not in self._by_ticket
            else charge
            for charge in charges
        )

    def _match_orders(self, charges: Iterable[SellerCharge]) -> Iterator[tuple[SellerCharge, LedgerOrder | None]]:
        """Matches tickets first, since an order that was bought twice has one reference and two tickets."""
        remaining, matched = [], set()
        for charge in charges:
            if order := self._by_ticket.get(charge.order_id or charge.reference):
                matched.add(id(order))
                yield charge, order
            else:
                remaining.append(charge)
        for charge in remaining:
            order = self._by_reference.get(charge.reference)
            is_other = order is not None and (id(order) in matched or (order.ticket and charge.order_id))
            if order is not None and not is_other:
                matched.add(id(order))
            yield charge, None if is_other else order

    def _compare_order(self, charge: SellerCharge, order: LedgerOrder, period: Period) -> OrderFinding:
        difference = charge.amount - order.booked
        if (difference or order.suspected) and order.last_charge_at > self._now:
            return self._make_finding(ReconciliationOutcome.IN_PROGRESS, order, charge, [])
        if difference and _may_lack_charges(charge, order, period):
            return self._make_finding(ReconciliationOutcome.INVOICE_INCOMPLETE, order, charge, [])
        outcome = ReconciliationOutcome.MATCHED if difference == 0 else ReconciliationOutcome.PRICE_DIFFERS
        entries = []
        if order.suspected:
            outcome = (
                ReconciliationOutcome.SUSPECTED_CHARGED
                if charge.amount
                else ReconciliationOutcome.SUSPECTED_NOT_CHARGED
            )
            reason = CHARGED_REASON if charge.amount else NOT_CHARGED_REASON
            entries.append(_reverse_suspected(order, reason))
        if difference:
            # A team has paid what was delivered: the rest is the operator's.
            line = LedgerLine.EXCESS if order.amounts[LedgerLine.CAPTURE] else LedgerLine.ORPHAN
            images = -entries[0].images if entries and line is LedgerLine.ORPHAN else 0
            reason = CHARGED_REASON if order.suspected else PRICE_REASON
            entries.append(replace(order.first, line=line, amount=difference, images=images, reason=reason))
        return self._make_finding(outcome, order, charge, entries)

    def _report_uncharged(self, order: LedgerOrder) -> OrderFinding:
        outcome = ReconciliationOutcome.MISSING_THERE if order.booked else ReconciliationOutcome.SUSPECTED_NOT_CHARGED
        entries = [_reverse_suspected(order, NOT_CHARGED_REASON)] if order.suspected else []
        return self._make_finding(outcome, order, None, entries)

    def _make_finding(
        self,
        outcome: ReconciliationOutcome,
        order: LedgerOrder,
        charge: SellerCharge | None,
        entries: list[LedgerEntry],
    ) -> OrderFinding:
        charge = charge or SellerCharge(order_id=order.ticket, amount=0)
        ticket = charge.order_id or order.ticket
        return OrderFinding(
            outcome=outcome,
            order_id=ticket or charge.reference or order.reference,
            job=order.first.job,
            charged=charge.amount,
            booked=order.booked,
            suspected=order.suspected,
            correction=self._make_correction([replace(entry, ticket=ticket) for entry in entries], order, charge),
        )

    def _report_unknown(self, charge: SellerCharge, period: Period) -> OrderFinding:
        """Reports a charge of which the ledger has no order. Its reference may lead to a job, and so to a team."""
        job_id, attempt_number = parse_reference(charge.reference)
        order_id, job = charge.order_id or charge.reference, self._jobs.get(job_id)
        attempt = job.get_attempt(attempt_number) if job else None
        if attempt is not None and attempt.state.is_open:
            return _report_without_correction(ReconciliationOutcome.IN_PROGRESS, charge)
        if charge.amount < 0:
            return _report_without_correction(ReconciliationOutcome.INVOICE_INCOMPLETE, charge)
        entry = replace(
            self._make_unknown_entry(charge, job_id, attempt_number, period),
            line=LedgerLine.ORPHAN,
            amount=charge.amount,
            images=charge.images,
            attempt=0,
            ticket=order_id,
            reason=CHARGED_REASON,
        )
        correction = self._make_correction([entry], None, charge)
        return OrderFinding(
            outcome=ReconciliationOutcome.MISSING_HERE,
            order_id=order_id,
            job=job_id,
            charged=charge.amount,
            correction=correction,
        )

    def _make_unknown_entry(
        self, charge: SellerCharge, job_id: str, attempt_number: int, period: Period
    ) -> LedgerEntry:
        """Makes an entry with the team, the model, the day and the hour of the job, as far as they are known. Its day
        is one of those that are compared again with the same period, so that the charge is then found."""
        moment = min(self._now, period.last_at) if charge.charged_at is None else charge.charged_at
        if related := self._by_job.get(job_id):
            if related.first_charge_at >= period.first_order_at:
                return related.first
            return replace(related.first, day=list_budget_windows(moment)[0], hour=get_hour(moment))
        job = self._jobs.get(job_id)
        attempt = job.get_attempt(attempt_number) if job else None
        if job and period.first_order_at <= job.created_at <= period.last_at:
            moment = job.created_at
        return LedgerEntry(
            day=list_budget_windows(moment)[0],
            hour=get_hour(moment),
            posted_at=self._now,
            line=LedgerLine.ORPHAN,
            amount=0,
            images=0,
            job=job_id,
            attempt=0,
            team=job.team if job else UNKNOWN,
            model=job.model if job else UNKNOWN,
            seller=self._seller,
            cell=job.route_entry(attempt).cell if job and attempt else UNKNOWN_CELL,
            key_id=job.key_id if job else "",
            budget_key=job.budget_key if job else "",
        )

    def _make_correction(
        self, entries: list[LedgerEntry], order: LedgerOrder | None, charge: SellerCharge
    ) -> Correction | None:
        """Makes the correction. Its id follows from the ledger and from the change, so another command that compared
        the same does not book it again."""
        if not entries:
            return None
        first = entries[0]
        state = sorted((order.amounts if order else Counter()).items())
        changes = [(entry.line, entry.amount) for entry in entries]
        text = repr((self._seller, first.job, first.attempt, first.ticket, state, changes))
        correction_id = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
        charged_at = charge.charged_at if charge.last_charged_at is None else charge.last_charged_at
        booked = (
            replace(entry, posted_at=self._now, correction=correction_id, charged_at=charged_at) for entry in entries
        )
        return Correction(id=correction_id, entries=tuple(booked))


def _report_without_correction(outcome: ReconciliationOutcome, charge: SellerCharge) -> OrderFinding:
    """Reports a charge without an order of the ledger."""
    return OrderFinding(
        outcome=outcome,
        order_id=charge.order_id or charge.reference,
        job=parse_reference(charge.reference)[0],
        charged=charge.amount,
    )


def _may_lack_charges(charge: SellerCharge, order: LedgerOrder, period: Period) -> bool:
    """Whether another invoice may have a part of what the order cost, so that the difference says nothing: a refund
    without its charge, a further charge of an order of before the period, or an invoice from before a correction. An
    order of long before the period may also expire earlier than the period: then its correction would be forgotten."""
    first_complete_at = period.first_at if order.booked else period.first_order_at
    times = [at for at in (charge.charged_at, charge.last_charged_at) if at is not None]
    is_older_invoice = max(times, default=-math.inf) < order.corrected_until
    return charge.amount < 0 or order.first_charge_at < first_complete_at or is_older_invoice


def _reverse_suspected(order: LedgerOrder, reason: str) -> LedgerEntry:
    return replace(
        order.first,
        line=LedgerLine.SUSPECTED,
        amount=-order.suspected,
        images=-order.images[LedgerLine.SUSPECTED],
        reason=reason,
    )
