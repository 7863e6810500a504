"""A month of generated traffic: jobs of several teams, the invoices of their sellers, and what they must add up to.

Pure: the same seed makes the same month for every store.
"""

import csv
import io
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.budgets import BudgetLimits, KeyBudget
from gateway.jobs.commit import Commit
from gateway.jobs.first_commit import NewJob, build_first_commit
from gateway.jobs.job import Job, RecoveryMethod, RouteEntry, order_reference
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    AttemptStarted,
    CancelRequested,
    ImagesReady,
    ImagesStored,
    JobExpired,
    JobUpdate,
    OrderFailed,
    ResponseLost,
    TicketReceived,
)
from gateway.jobs.transition_tables import LedgerLine
from gateway.ledger.reconciliation import ReconciliationOutcome
from gateway.money import format_usd
from gateway.store.base import FIRST_FENCE
from gateway.store.partitions import new_job_id
from providers.faults import FaultKind
from providers.orders import Cell, Operation
from tests.store import job_factory

MONTH, DAYS = "2040-05", 31
FIRST_MOMENT = job_factory.parse_utc_time(f"{MONTH}-01T00:00:00")
MONTH_END = FIRST_MOMENT + DAYS * 86_400.0 - 1
# No job is created so late that it ends after the month.
LAST_JOB_SECONDS = 3_600.0
TEAMS = ("acme", "design", "marketing", "research", "shop")
# The API keys of each team. The last one has a budget.
KEY_IDS = ("", "abcdefghij", "klmnopqrst", "uvwxyz2345")
MODELS = ("gpt-image-2", "flux-3", "dream-1")
CELLS = (
    Cell(Operation.GENERATE, "1k", "low"),
    Cell(Operation.GENERATE, "1k", "high"),
    Cell(Operation.GENERATE, "4k", "high"),
    Cell(Operation.EDIT, "2k", "medium"),
)


class SellerStyle(Struct, frozen=True):
    """A seller's price and ceiling per image, and by what its invoice names an order."""

    price: int
    ceiling: int
    shows_ticket: bool = True
    shows_reference: bool = True


SELLERS = {
    "runapi": SellerStyle(40_000, 50_000),
    "runflow": SellerStyle(31_337, 44_444, shows_ticket=False),
    "openai": SellerStyle(52_681, 60_001, shows_reference=False),
}


class PlannedJob(Struct, frozen=True):
    """The first commit of a job, and its updates with their times."""

    commit: Commit
    updates: tuple[tuple[float, JobUpdate], ...]


class PlannedOrder(Struct, frozen=True):
    """An order of some images. `cost`: a price that the seller may charge; `hold`: the amount held for its images."""

    attempt: int
    images: tuple[int, ...]
    cost: int
    price: int
    hold: int


class OrderEnd(Struct, frozen=True):
    """How an order ends: the updates, what the ledger books in the end, what the seller charges, and what
    reconciliation finds besides orders that match."""

    updates: tuple[JobUpdate, ...]
    lines: dict[LedgerLine, int] = {}
    charges: tuple[int, ...] = ()
    findings: tuple[ReconciliationOutcome, ...] = ()


# Ends of orders, with their weights.
WEIGHTS = {
    "delivered": 40,
    "delivered for the known price": 10,
    "partly delivered": 6,
    "dearer": 3,
    "cheaper": 3,
    "beyond the hold": 2,
    "billed twice": 3,
    "not billed": 2,
    "refused": 4,
    "failed": 4,
    "empty": 3,
    "timed out, charged": 4,
    "timed out, free": 4,
    "unanswered": 3,
    "late": 3,
    "late failure": 3,
}
# After these, the images are ordered from the next seller.
FAILOVER_ENDS = ("failed", "empty")
SHAPES = {"single": 80, "failover": 8, "split": 8, "cancelled": 2, "expired": 2}


def list_ends(order: PlannedOrder) -> dict[str, OrderEnd]:
    """Lists all ends that the order can have."""
    capture, orphan, suspected = LedgerLine.CAPTURE, LedgerLine.ORPHAN, LedgerLine.SUSPECTED
    attempt, cost, first_image_cost = order.attempt, order.cost, order.cost // len(order.images)
    stored = ImagesStored(attempt=attempt, images=order.images, cost=cost)
    partly_stored = replace(stored, images=order.images[:1], made_count=len(order.images))
    timed_out = AttemptAbandoned(fence=FIRST_FENCE, attempt=attempt, fault=FaultKind.ORDER_TIMED_OUT)
    unanswered = (ResponseLost(attempt=attempt), replace(timed_out, fault=FaultKind.RESPONSE_LOST))
    failed = OrderFailed(attempt=attempt, fault=FaultKind.ORDER_FAILED)
    paid, doubtful = {capture: cost}, {suspected: order.price}
    price_differs = (ReconciliationOutcome.PRICE_DIFFERS,)
    is_charged = (ReconciliationOutcome.SUSPECTED_CHARGED,)
    return {
        "delivered": OrderEnd((stored,), paid, (cost,)),
        "delivered for the known price": OrderEnd(
            (replace(stored, cost=None),), {capture: order.price}, (order.price,)
        ),
        "partly delivered": OrderEnd(
            (partly_stored,), {capture: first_image_cost, orphan: cost - first_image_cost}, (cost,)
        ),
        "dearer": OrderEnd((stored,), paid, (cost + 1,), price_differs),
        "cheaper": OrderEnd((stored,), paid, (cost - 1,), price_differs),
        "beyond the hold": OrderEnd(
            (replace(stored, cost=3 * order.hold),),
            {capture: order.hold, LedgerLine.EXCESS: 2 * order.hold},
            (3 * order.hold,),
        ),
        "billed twice": OrderEnd((stored,), paid, (cost, cost), (ReconciliationOutcome.MISSING_HERE,)),
        "not billed": OrderEnd((stored,), paid, (), (ReconciliationOutcome.MISSING_THERE,)),
        "refused": OrderEnd((replace(failed, fault=FaultKind.CONTENT_REFUSED),)),
        "failed": OrderEnd((failed,)),
        "empty": OrderEnd((replace(failed, fault=FaultKind.NO_IMAGES, cost=cost),), {orphan: cost}, (cost,)),
        "timed out, charged": OrderEnd((timed_out,), doubtful, (cost,), is_charged),
        "timed out, free": OrderEnd((timed_out,), doubtful, (), (ReconciliationOutcome.SUSPECTED_NOT_CHARGED,)),
        "unanswered": OrderEnd(unanswered, doubtful, (cost,), is_charged),
        "late": OrderEnd((timed_out, ImagesReady(attempt=attempt, cost=cost)), {orphan: cost}, (cost,)),
        "late failure": OrderEnd((timed_out, failed)),
    }


def list_findings(kind: str, end: OrderEnd, style: SellerStyle) -> tuple[ReconciliationOutcome, ...]:
    """Lists the findings, which depend on how the seller's invoice names its orders."""
    if kind == "unanswered" and not style.shows_reference:
        # Nothing connects the charge with the order.
        return ReconciliationOutcome.MISSING_HERE, ReconciliationOutcome.SUSPECTED_NOT_CHARGED
    if kind == "billed twice" and not style.shows_ticket:
        # Both charges have the same reference, and count as one.
        return (ReconciliationOutcome.PRICE_DIFFERS,)
    return end.findings


class InvoiceLine(Struct, frozen=True):
    ticket: str
    reference: str
    amount: int
    images: int
    charged_at: float


class GeneratedMonth:
    """The jobs in the order of their creation. Sums of their ledger are by team, seller and line."""

    def __init__(self, seed: int, job_count: int) -> None:
        self._draw = random.Random(seed)  # noqa: S311 - it must be repeatable
        self.lines: Counter[tuple[str, str, LedgerLine]] = Counter()
        self.findings: dict[str, Counter[ReconciliationOutcome]] = {seller: Counter() for seller in SELLERS}
        self.unbilled: Counter[str] = Counter()
        self._invoices: dict[str, list[InvoiceLine]] = {seller: [] for seller in SELLERS}
        seconds = sorted(self._draw.random() * (DAYS * 86_400.0 - LAST_JOB_SECONDS) for _ in range(job_count))
        self.jobs = [self._plan_job(round(FIRST_MOMENT + offset, 3)) for offset in seconds]
        for seller in SELLERS:
            self._add_foreign_charge(seller)

    def sum_invoice(self, seller: str) -> int:
        return sum(line.amount for line in self._invoices[seller])

    def write_invoice(self, seller: str) -> str:
        """Writes the seller's invoice as CSV, in any order. Some charges have a second line, with a refund."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["id", "client_ref", "amount_usd", "images", "charged_at"])
        for line in self._draw.sample(self._invoices[seller], len(self._invoices[seller])):
            refund = 1_234 if self._draw.random() < 0.05 else 0
            for amount, images in ((line.amount + refund, line.images), *([(-refund, 0)] if refund else ())):
                charged_at = datetime.fromtimestamp(line.charged_at, UTC).isoformat()
                writer.writerow([line.ticket, line.reference, format_usd(amount), images, charged_at])
        return text.getvalue()

    # --- jobs

    def _plan_job(self, now: float) -> PlannedJob:
        draw, shape = self._draw, self._choose(SHAPES)
        team, n = draw.choice(TEAMS), draw.randint(2, 4) if shape == "split" else draw.randint(1, 4)
        key_id, cell = draw.choice(KEY_IDS), draw.choice(CELLS)
        new_job = NewJob(
            id=new_job_id(team, draw.randbytes, lambda: now),
            team=team,
            model=draw.choice(MODELS),
            n=n,
            route=tuple(make_route_entry(seller, cell) for seller in draw.sample(list(SELLERS), 2)),
            max_attempts=2 if shape == "failover" else 1,
            split_count=2 if shape == "split" else 1,
            key_id=key_id,
            key_budget=KeyBudget(key_id, BudgetLimits(month=10**12)) if key_id == KEY_IDS[-1] else None,
            decision_record=job_factory.make_decision_record(team),
        )
        commit = build_first_commit(new_job, now)
        return PlannedJob(commit, tuple(self._add_times(now, self._plan_updates(shape, commit.job))))

    def _add_times(self, now: float, updates: Iterator[JobUpdate]) -> Iterator[tuple[float, JobUpdate]]:
        for update in updates:
            now += 1_000.0 if isinstance(update, JobExpired) else self._draw.uniform(0.1, 90.0)
            yield round(now, 3), update

    def _plan_updates(self, shape: str, job: Job) -> Iterator[JobUpdate]:
        match shape:
            case "single":
                yield from self._plan_order(job, 1, 0, job.parts[0].images, self._choose(WEIGHTS))
            case "failover":
                images = job.parts[0].images
                yield from self._plan_order(job, 1, 0, images, self._draw.choice(FAILOVER_ENDS))
                yield from self._plan_order(job, 2, 1, images, self._choose(WEIGHTS))
            case "split":
                for index, part in enumerate(job.parts):
                    yield from self._plan_order(job, index + 1, index, part.images, self._choose(WEIGHTS))
            case "cancelled":
                yield CancelRequested()
            case "expired":
                yield JobExpired(fence=FIRST_FENCE)

    def _plan_order(
        self, job: Job, attempt: int, route_index: int, images: tuple[int, ...], kind: str
    ) -> Iterator[JobUpdate]:
        entry = job.route[route_index]
        order = PlannedOrder(
            attempt=attempt,
            images=images,
            cost=self._draw.randrange(entry.price * 3 // 4, entry.ceiling) * len(images),
            price=entry.price * len(images),
            hold=job.hold_per_image * len(images),
        )
        end = list_ends(order)[kind]
        ticket = f"{entry.seller}-{self._draw.getrandbits(64):016x}"
        yield AttemptStarted(fence=FIRST_FENCE, route_index=route_index, images=images)
        if kind != "unanswered":
            yield TicketReceived(attempt=attempt, ticket=ticket)
        yield from end.updates
        self._record_end(job, entry.seller, kind, end)
        self._bill(job, attempt, ticket, end.charges, len(images))

    def _record_end(self, job: Job, seller: str, kind: str, end: OrderEnd) -> None:
        for line, amount in end.lines.items():
            self.lines[job.team, seller, line] += amount
        self.findings[seller].update(list_findings(kind, end, SELLERS[seller]))
        if kind == "not billed":
            self.unbilled[seller] += end.lines[LedgerLine.CAPTURE]

    def _bill(self, job: Job, attempt: int, ticket: str, charges: tuple[int, ...], images: int) -> None:
        seller = ticket.partition("-")[0]
        style, reference = SELLERS[seller], order_reference(job.id, attempt)
        for number, amount in enumerate(charges):
            self._invoices[seller].append(
                InvoiceLine(
                    ticket=f"{ticket}{'-again' * number}" if style.shows_ticket else "",
                    reference=reference if style.shows_reference else "",
                    amount=amount,
                    images=images,
                    charged_at=job.created_at + 60.0,
                )
            )

    def _add_foreign_charge(self, seller: str) -> None:
        """Adds a charge of another client of the account."""
        ticket, charged_at = f"{seller}-of-another-client", FIRST_MOMENT + 12_345.0
        reference = "" if SELLERS[seller].shows_ticket else ticket
        self._invoices[seller].append(InvoiceLine("" if reference else ticket, reference, 7, 1, charged_at))
        self.findings[seller][ReconciliationOutcome.MISSING_HERE] += 1

    def _choose(self, weights: dict[str, int]) -> str:
        return self._draw.choices(list(weights), list(weights.values()))[0]


def make_route_entry(seller: str, cell: Cell) -> RouteEntry:
    style = SELLERS[seller]
    return RouteEntry(
        seller=seller,
        adapter=seller,
        model="remote-model",
        cell=cell,
        max_images=4,
        price=style.price,
        ceiling=style.ceiling,
        timeout_seconds=420.0,
        is_pollable=True,
        recovery_method=RecoveryMethod.SEARCH,
    )
