"""The end audit: what the store says of every job, beside what the vendors' invoice says was bought."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from msgspec import Struct

from gateway.engine.records import REQUEST, request_from
from gateway.jobs.job import Attempt, Job, reference_of
from gateway.store.base import Store
from gateway.store.books import Balance
from tests.chaos.configs import VENDOR_OF
from tests.vendors import Vendors

TEAM = "chaos"


class Books(Struct, frozen=True, kw_only=True):
    """Everything that is saved, by job; `violations` is what the auditor finds wrong."""

    jobs: dict[str, Job]
    prompts: dict[str, str]
    balances: tuple[Balance, ...]
    violations: int
    captured: int

    @property
    def attempts(self) -> dict[str, Attempt]:
        """By the name that their sellers know them by."""
        return {reference_of(job.id, one.number): one for job in self.jobs.values() for one in job.attempts}

    def seller_of(self, reference: str) -> str:
        name, _, number = reference.rpartition("-")
        job = self.jobs[name]
        return job.route[job.attempts[int(number) - 1].place].seller

    def unsettled(self) -> list[str]:
        return [name for name, job in self.jobs.items() if not job.is_settled]

    def endings(self) -> dict[str, dict[str, int]]:
        """By seller: how many jobs ended how."""
        counted: dict[str, Counter[str]] = {}
        for job in self.jobs.values():
            word = job.state if job.fault is None else f"{job.state}: {job.fault}"
            counted.setdefault(job.route[0].seller, Counter())[word] += 1
        return {seller: dict(counter) for seller, counter in sorted(counted.items())}


def read(make: Callable[[], Store]) -> Books:
    """Opens the store beside, or after, whoever else works with it."""
    return asyncio.run(_read(make))


async def _read(make: Callable[[], Store]) -> Books:
    store = make()
    await store.open()
    try:
        jobs = {job.id: job for job in await _all_jobs(store)}
        prompts = {name: (await store.documents(name, REQUEST))[REQUEST] for name in jobs}
        windows = {day: None for job in jobs.values() for day in _windows(job)}
        findings = [await store.audit(partition, repair=False) for partition in store.partitions]
        entries = [entry for window in windows if len(window) == 10 for entry in await store.ledger(window, TEAM)]
        return Books(
            jobs=jobs,
            prompts={name: request_from(saved).prompt for name, saved in prompts.items()},
            balances=tuple((await store.budget(TEAM, *windows)).values()),
            violations=sum(found.violations for found in findings),
            captured=sum(entry.amount for entry in entries if entry.line == "capture"),
        )
    finally:
        await store.close()


async def _all_jobs(store: Store) -> list[Job]:
    page = await store.list(TEAM, 100)
    jobs = list(page.jobs)
    while page.more:
        page = await store.list(TEAM, 100, page.more)
        jobs += page.jobs
    return jobs


def _windows(job: Job) -> tuple[str, str]:
    day = datetime.fromtimestamp(job.created, UTC).date().isoformat()
    return day, day[:7]


def assert_in_order(books: Books, acknowledged: Iterable[str]) -> None:
    """Nothing is lost, nothing is open, nothing is set aside, and the books agree with themselves."""
    assert set(acknowledged) - books.jobs.keys() == set(), "acknowledged, and lost"
    assert [name for name, job in books.jobs.items() if not job.state.is_terminal] == []
    assert books.unsettled() == []
    assert [balance.held for balance in books.balances] == [0] * len(books.balances)
    assert books.violations == 0
    twice = [prompt for prompt, times in Counter(books.prompts.values()).items() if times > 1]
    assert twice == [], "requests that became several jobs"
    assert sum(job.captured for job in books.jobs.values()) == books.captured


def assert_invoice_is_explained(books: Books, vendors: Vendors) -> None:
    """Each line of it is one capture, orphan or suspected line; beyond those only suspicions that proved unfounded."""
    charges = vendors.charges()
    named = {line["client_ref"] or line["idempotency_key"]: line for line in charges if line["vendor"] != "openai"}
    attempts = books.attempts
    assert len(named) == sum(line["vendor"] != "openai" for line in charges), "an order was bought twice"
    assert named.keys() - attempts.keys() == set(), "bought, and not in the books"
    for reference, attempt in attempts.items():
        booked = attempt.captured + attempt.orphaned + attempt.suspected
        if VENDOR_OF[books.seller_of(reference)] == "openai":
            continue
        if reference in named:
            assert booked == named[reference]["usd_micros"], f"{reference} is charged, and booked as {attempt}"
        else:
            assert booked == attempt.suspected, f"{reference} was never charged, and is booked as {attempt}"
    _assert_adds_up(books, charges, "openai")


def _assert_adds_up(books: Books, charges: list[dict[str, object]], vendor: str) -> None:
    """For a vendor that is told no reference of ours: counted, with one price for every picture."""
    mine = [one for ref, one in books.attempts.items() if VENDOR_OF[books.seller_of(ref)] == vendor]
    sure = sum(one.captured + one.orphaned for one in mine)
    suspected = [one.suspected for one in mine if one.suspected]
    charged = [line["usd_micros"] for line in charges if line["vendor"] == vendor]
    assert len(set(charged) | set(suspected)) <= 1, "prices were to be alike"
    assert sure <= sum(map(int, charged)) <= sure + sum(suspected)  # type: ignore[call-overload]
