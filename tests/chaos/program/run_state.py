"""Everything that the store has at the end of a chaos run, and the invoice of the sellers."""

import secrets
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.engine.job_documents import decode_request
from gateway.jobs.budgets import list_budget_windows
from gateway.jobs.commit import LedgerEntry
from gateway.jobs.document_names import PROMPT, REQUEST, image_document_name
from gateway.jobs.job import Job, order_reference
from gateway.ledger.invoice_file import SellerCharge
from gateway.ledger.invoice_sellers import select_sellers
from gateway.ledger.reconciliation import Period, ReconciliationOutcome, parse_reference
from gateway.ledger.reconciliation_runner import Auditor, book_corrections, compare_charges
from gateway.store.base import DAY_SECONDS, Store
from gateway.store.ledger_totals import BudgetBalance
from tests.chaos.chaos_config import VENDOR_BY_SELLER
from tests.harness.sandbox_runner import RunningSandbox

TEAM = "chaos"
# OpenAI shows neither a ticket nor a reference of an order.
VENDOR_WITHOUT_REFERENCES = "openai"
RECONCILED_SELLERS = tuple(seller for seller, vendor in VENDOR_BY_SELLER.items() if vendor != VENDOR_WITHOUT_REFERENCES)


class RunState(Struct, frozen=True, kw_only=True):
    """`prompts`: of jobs that are not deleted. `ends`: the names of the terminal milestones by job. `missing_images`:
    delivered images without a record. `left_documents`: of deleted jobs. `discrepancies`: that the store's own audit
    finds."""

    jobs: dict[str, Job]
    prompts: dict[str, str]
    ends: dict[str, list[str]]
    missing_images: list[str]
    left_documents: list[str]
    balances: Mapping[str, BudgetBalance]
    discrepancies: list[str]
    entries: list[LedgerEntry]
    outbox_length: int

    @property
    def open_jobs(self) -> list[str]:
        return [job_id for job_id, job in self.jobs.items() if not job.is_settled]

    def count_outcomes(self) -> Counter[str]:
        return Counter(job.state if job.fault is None else f"{job.state}: {job.fault}" for job in self.jobs.values())


async def read_state(store: Store, deleted_jobs: Iterable[str]) -> RunState:
    """Reads an open store. `deleted_jobs`: that no list contains. `entries`: of all days on which jobs were created."""
    listed = [*await _list_jobs(store), *[await store.load_job(job_id) for job_id in deleted_jobs]]
    jobs = {job.id: job for job in listed if job is not None}
    prompts, ends, missing_images, left_documents = {}, {}, [], []
    for job_id, job in jobs.items():
        names = [image_document_name(number, index) for index, number in job.delivering_attempts.items()]
        documents = await store.load_documents(job_id, REQUEST, PROMPT, *names)
        if job.is_deleted:
            left_documents += [f"{job_id} is deleted, and has still {name}" for name in documents]
        else:
            prompts[job_id] = decode_request(documents).prompt
            missing_images += [f"{job_id} has no {name}" for name in names if name not in documents]
        milestones = await store.list_milestones(job_id)
        ends[job_id] = [
            milestone.name
            for milestone in milestones
            if milestone.name in ("completed", "failed", "cancelled", "expired")
        ]
    windows = sorted({window for job in jobs.values() for window in list_budget_windows(job.created_at)})
    reports = [await store.audit(partition, repair=False) for partition in store.partitions]
    return RunState(
        jobs=jobs,
        prompts=prompts,
        ends=ends,
        missing_images=missing_images,
        left_documents=left_documents,
        balances=await store.load_balances(TEAM, *windows),
        discrepancies=[line for report in reports for line in report.describe()],
        entries=await read_entries(store, jobs.values()),
        outbox_length=len(await store.claim_deliveries(lease=0.1)),
    )


async def read_entries(store: Store, jobs: Iterable[Job]) -> list[LedgerEntry]:
    days = sorted({list_budget_windows(job.created_at)[0] for job in jobs})
    return [entry for day in days for entry in await store.list_ledger_entries(day)]


async def _list_jobs(store: Store) -> list[Job]:
    page = await store.list_jobs(TEAM, 100)
    jobs = list(page.jobs)
    while page.next_position:
        page = await store.list_jobs(TEAM, 100, page.next_position)
        jobs += page.jobs
    return jobs


# --- the invoice


class ChargedLine(Struct, frozen=True, kw_only=True):
    """A charge of a seller. `reference`: of the order, as job and attempt; empty for OpenAI. `key`: the idempotency key
    that it was ordered with. `caption`: the prompt of the order, shortened: no real invoice has it."""

    vendor: str
    order_id: str
    reference: str
    key: str | None
    caption: str
    amount: int
    images: int
    charged_at: float

    @property
    def job(self) -> str:
        return parse_reference(self.reference)[0]


def read_invoice(sandbox: RunningSandbox) -> list[ChargedLine]:
    return [
        ChargedLine(
            vendor=line["vendor"],
            order_id=line["id"],
            reference=line["client_ref"] or line["idempotency_key"] or "",
            key=line["idempotency_key"],
            caption=line["caption"],
            amount=line["usd_micros"],
            images=line["images"],
            charged_at=line["at"],
        )
        for line in sandbox.list_charges()
    ]


async def reconcile(store: Store, invoice: Iterable[ChargedLine], jobs: Mapping[str, Job]) -> Counter[str]:
    """Books what the invoice has and the ledger has not, as `image-gateway reconcile` does. Returns how many charges of
    each outcome there were, matched ones aside."""
    seller_by_reference = {
        order_reference(job.id, attempt.number): job.route_entry(attempt).seller
        for job in jobs.values()
        for attempt in job.attempts
    }
    now, outcomes = time.time(), Counter[str]()
    lines = list(invoice)
    for seller in RECONCILED_SELLERS:
        charges = [
            SellerCharge(
                order_id=line.order_id,
                reference=line.reference,
                amount=line.amount,
                images=line.images,
                charged_at=line.charged_at,
            )
            for line in lines
            if seller_by_reference.get(line.reference) == seller
        ]
        # Some gateways had a wrong clock. Nothing is open any more: so it is compared like days later.
        period = Period(now - DAY_SECONDS, now + 2 * DAY_SECONDS)
        findings = await compare_charges(
            store, select_sellers(seller, {seller: seller}), charges, period, now + 3 * DAY_SECONDS
        )
        await book_corrections(store, seller, findings, Auditor("chaos", "chaos", secrets.token_bytes), now)
        outcomes.update(finding.outcome for finding in findings if finding.outcome is not ReconciliationOutcome.MATCHED)
    return outcomes
