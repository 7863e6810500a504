"""The final audit: the store's jobs and ledger compared with the sandbox's invoice."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime

from msgspec import Struct

from gateway.jobs.document_names import PROMPT
from gateway.jobs.job import Attempt, Job, order_reference
from gateway.store.base import Store
from gateway.store.ledger_totals import BudgetBalance
from tests.chaos.chaos_config import VENDOR_BY_SELLER
from tests.harness.sandbox_runner import RunningSandbox

TEAM = "chaos"


class StoreSnapshot(Struct, frozen=True, kw_only=True):
    """Everything in the store. `violation_count` is the number of discrepancies that its own audit finds."""

    jobs: dict[str, Job]
    prompts: dict[str, str]
    balances: tuple[BudgetBalance, ...]
    violation_count: int
    captured_micros: int

    @property
    def attempts(self) -> dict[str, Attempt]:
        """The attempts by order reference."""
        return {
            order_reference(job.id, attempt.number): attempt for job in self.jobs.values() for attempt in job.attempts
        }

    def get_seller(self, reference: str) -> str:
        job_id, _, number = reference.rpartition("-")
        job = self.jobs[job_id]
        return job.route[job.attempts[int(number) - 1].route_index].seller

    def list_unsettled_jobs(self) -> list[str]:
        return [name for name, job in self.jobs.items() if not job.is_settled]

    def count_outcomes(self) -> dict[str, dict[str, int]]:
        """Counts the jobs' outcomes by seller."""
        outcomes_by_seller: dict[str, Counter[str]] = {}
        for job in self.jobs.values():
            outcome = job.state if job.fault is None else f"{job.state}: {job.fault}"
            outcomes_by_seller.setdefault(job.route[0].seller, Counter())[outcome] += 1
        return {seller: dict(counter) for seller, counter in sorted(outcomes_by_seller.items())}


def read_snapshot(make_store: Callable[[], Store]) -> StoreSnapshot:
    """Reads the store through its own connection, also while gateways use it."""
    return asyncio.run(_read_async(make_store))


async def _read_async(make_store: Callable[[], Store]) -> StoreSnapshot:
    store = make_store()
    await store.open()
    try:
        jobs = {job.id: job for job in await _list_jobs(store)}
        prompts = {name: (await store.load_documents(name, PROMPT))[PROMPT].decode() for name in jobs}
        windows = {day: None for job in jobs.values() for day in _budget_windows(job)}
        findings = [await store.audit(partition, repair=False) for partition in store.partitions]
        entries = [
            entry for window in windows if len(window) == 10 for entry in await store.list_ledger_entries(window, TEAM)
        ]
        return StoreSnapshot(
            jobs=jobs,
            prompts=prompts,
            balances=tuple((await store.load_balances(TEAM, *windows)).values()),
            violation_count=sum(finding.discrepancy_count for finding in findings),
            captured_micros=sum(entry.amount for entry in entries if entry.line == "capture"),
        )
    finally:
        await store.close()


async def _list_jobs(store: Store) -> list[Job]:
    page = await store.list_jobs(TEAM, 100)
    jobs = list(page.jobs)
    while page.next_position:
        page = await store.list_jobs(TEAM, 100, page.next_position)
        jobs += page.jobs
    return jobs


def _budget_windows(job: Job) -> tuple[str, str]:
    day = datetime.fromtimestamp(job.created_at, UTC).date().isoformat()
    return day, day[:7]


def audit_store(
    make_store: Callable[[], Store], sandbox: RunningSandbox, acknowledged_jobs: Iterable[str]
) -> StoreSnapshot:
    """Reads the store, and compares it with itself, the acknowledged jobs and the invoice."""
    snapshot = read_snapshot(make_store)
    assert_consistent(snapshot, acknowledged_jobs)
    assert_matches_invoice(snapshot, sandbox)
    return snapshot


def assert_consistent(snapshot: StoreSnapshot, acknowledged_jobs: Iterable[str]) -> None:
    """No acknowledged job is lost, no request created two jobs, and all jobs are settled."""
    assert set(acknowledged_jobs) - snapshot.jobs.keys() == set(), "acknowledged jobs are lost"
    duplicates = [prompt for prompt, count in Counter(snapshot.prompts.values()).items() if count > 1]
    assert duplicates == [], "one request created several jobs"
    assert_settled(snapshot)


def assert_settled(snapshot: StoreSnapshot) -> None:
    """All jobs are settled, no budget is held, and the ledger is consistent."""
    assert [name for name, job in snapshot.jobs.items() if not job.state.is_terminal] == []
    assert snapshot.list_unsettled_jobs() == []
    assert [balance.held for balance in snapshot.balances] == [0] * len(snapshot.balances)
    assert snapshot.violation_count == 0
    assert sum(job.captured_amount for job in snapshot.jobs.values()) == snapshot.captured_micros


def assert_matches_invoice(snapshot: StoreSnapshot, sandbox: RunningSandbox, lost_jobs: Collection[str] = ()) -> None:
    """Each charge is booked once as capture, orphan or suspected. Only suspected amounts may have no charge, and only
    charges of lost jobs may not be booked."""
    charges = sandbox.list_charges()
    charges_by_reference = {
        line["client_ref"] or line["idempotency_key"]: line for line in charges if line["vendor"] != "openai"
    }
    attempts = snapshot.attempts
    assert len(charges_by_reference) == sum(line["vendor"] != "openai" for line in charges), "an order was bought twice"
    unknown = charges_by_reference.keys() - attempts.keys()
    assert [ref for ref in unknown if ref.rpartition("-")[0] not in lost_jobs] == [], (
        "charged orders are not in the ledger"
    )
    for reference, attempt in attempts.items():
        booked = attempt.captured_amount + attempt.orphaned_amount + attempt.suspected_amount
        if VENDOR_BY_SELLER[snapshot.get_seller(reference)] == "openai":
            continue
        if reference in charges_by_reference:
            assert booked == charges_by_reference[reference]["usd_micros"], (
                f"{reference} was charged, and is booked as {attempt}"
            )
        else:
            assert booked == attempt.suspected_amount, f"{reference} was never charged, and is booked as {attempt}"
    _assert_total_matches(snapshot, charges, "openai")


def _assert_total_matches(snapshot: StoreSnapshot, charges: list[dict[str, object]], vendor: str) -> None:
    """Compares totals, for a vendor whose orders have no reference. All its charges have one price."""
    attempts = [
        attempt for ref, attempt in snapshot.attempts.items() if VENDOR_BY_SELLER[snapshot.get_seller(ref)] == vendor
    ]
    booked_total = sum(attempt.captured_amount + attempt.orphaned_amount for attempt in attempts)
    suspected_amounts = [attempt.suspected_amount for attempt in attempts if attempt.suspected_amount]
    charged_amounts = [line["usd_micros"] for line in charges if line["vendor"] == vendor]
    assert len(set(charged_amounts) | set(suspected_amounts)) <= 1, "all prices must be equal"
    assert booked_total <= sum(map(int, charged_amounts)) <= booked_total + sum(suspected_amounts)  # type: ignore[call-overload]
