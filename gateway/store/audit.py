"""Recomputes every number that is derived from jobs and the ledger, and compares it with the stored one.

Pure: the stores read the snapshot, in pages, and write the repairs. Numbers are repaired by additions, and commits are
additions, too: so a repair stays right while jobs change.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.budgets import list_budget_windows, list_owners
from gateway.jobs.commit import LedgerEntry, build_commit
from gateway.jobs.job import Job
from gateway.jobs.job_cleanup import get_next_cleanup
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_totals import EMPTY_BALANCE, BudgetBalance, EntryTotals, LedgerTotal, TotalKey, add_entry

ItemT = TypeVar("ItemT")
AttemptLine = tuple[int, LedgerLine]


class Iterate(Protocol):
    """Iterates over the items of a loop. May pause between two items."""

    def __call__(self, items: Iterable[ItemT], /) -> Iterator[ItemT]: ...


class AuditedJob(Struct, frozen=True, kw_only=True, gc=False):
    """The part of a job that an audit compares. It takes little memory, and is made while pages are read."""

    id: str
    team: str
    budget_owners: tuple[str, ...]
    version: int
    day: str
    month: str
    hold: int
    is_settled: bool
    expected_entries: tuple[LedgerEntry, ...]
    cleanup_at: float | None = None


def summarize_job(job: Job, now: float) -> AuditedJob:
    day, month = list_budget_windows(job.created_at)
    return AuditedJob(
        id=job.id,
        team=job.team,
        budget_owners=list_owners(job.team, job.budget_key),
        version=job.version,
        day=day,
        month=month,
        hold=job.hold,
        is_settled=job.is_settled,
        expected_entries=build_commit(None, job, now).ledger_entries,
        cleanup_at=cleanup.at if (cleanup := get_next_cleanup(job)) else None,
    )


class PartitionSnapshot(Struct, frozen=True, kw_only=True):
    """A consistent snapshot of a partition: jobs that are listed as open or due, and the numbers derived from jobs.

    `open_jobs` and `due_jobs` may list jobs that do not exist. `ledger_entries` covers whole days. `totals` covers
    these days, their hours, and all other days of the same months. `balances` covers the budget windows of these days
    and months.
    """

    jobs: dict[str, AuditedJob]
    open_jobs: set[str]
    due_jobs: set[str]
    days: tuple[str, ...]
    ledger_entries: Iterable[LedgerEntry]
    totals: tuple[LedgerTotal, ...]
    balances: Mapping[tuple[str, str], BudgetBalance]


class BudgetDrift(Struct, frozen=True, kw_only=True):
    """The amounts to add to a balance to correct it."""

    owner: str
    window: str
    held: int
    spent: int


class AuditReport(Struct, frozen=True, kw_only=True):
    """The discrepancies of a partition. `missing_jobs` are listed but do not exist: they cannot be restored."""

    not_due: tuple[str, ...] = ()
    not_open: tuple[str, ...] = ()
    settled_but_listed: tuple[str, ...] = ()
    missing_jobs: tuple[str, ...] = ()
    missing_entries: tuple[LedgerEntry, ...] = ()
    total_corrections: tuple[LedgerTotal, ...] = ()
    budget_drifts: tuple[BudgetDrift, ...] = ()

    def describe(self) -> Iterator[str]:
        """Yields a line for each discrepancy, for operators."""
        yield from (f"{job_id} is open and not due" for job_id in self.not_due)
        yield from (f"{job_id} is open and not listed as open" for job_id in self.not_open)
        yield from (f"{job_id} is settled and listed as open or due" for job_id in self.settled_but_listed)
        yield from (f"{job_id} is listed and does not exist" for job_id in self.missing_jobs)
        yield from (
            f"{entry.job} lacks a ledger entry of {entry.amount} micro-USD ({entry.line})"
            for entry in self.missing_entries
        )
        yield from (
            f"the total of {total.account.team} for {total.period} is wrong by {-total.amount} micro-USD"
            for total in self.total_corrections
        )
        yield from (
            f"the budget of {drift.owner} for {drift.window} is wrong by {-drift.held} micro-USD held, "
            f"{-drift.spent} spent"
            for drift in self.budget_drifts
        )

    @property
    def discrepancy_count(self) -> int:
        lists = (
            self.not_due,
            self.not_open,
            self.settled_but_listed,
            self.missing_jobs,
            self.missing_entries,
            self.total_corrections,
            self.budget_drifts,
        )
        return sum(len(items) for items in lists)


def list_audit_days(now: float, jobs: Iterable[AuditedJob]) -> tuple[str, ...]:
    """Returns today, yesterday and the days of open jobs. All other days were audited after they ended."""
    today = datetime.fromtimestamp(now, UTC).date()
    recent = {today.isoformat(), (today - timedelta(days=1)).isoformat()}
    return tuple(sorted(recent | {job.day for job in jobs}))


def list_month_days(month: str) -> tuple[str, ...]:
    day = datetime.fromisoformat(f"{month}-01").date()
    days = (day + timedelta(days=offset) for offset in range(31))
    return tuple(month_day.isoformat() for month_day in days if month_day.isoformat().startswith(month))


def find_discrepancies(snapshot: PartitionSnapshot, now: float, iterate: Iterate = iter) -> AuditReport:
    """Returns every difference between the stored numbers and those that follow from jobs and ledger.

    All loops over a large snapshot go through `iterate`. Operations on whole sets of jobs are avoided: other threads
    cannot run meanwhile.
    """
    jobs, open_jobs, due_jobs = snapshot.jobs, snapshot.open_jobs, snapshot.due_jobs
    totals: EntryTotals = {}
    booked = _group_entries(iterate(snapshot.ledger_entries), jobs, totals)
    missing_entries = tuple(_find_missing_entries(iterate(jobs.values()), snapshot.days, booked, now))
    for entry in missing_entries:
        add_entry(entry, totals)
    settled = {job_id for job_id in iterate(chain(due_jobs, open_jobs)) if job_id in jobs and jobs[job_id].is_settled}
    missing = {job_id for job_id in iterate(chain(due_jobs, open_jobs)) if job_id not in jobs}
    return AuditReport(
        not_due=tuple(sorted(_list_unsettled(iterate(jobs.values()), due_jobs))),
        not_open=tuple(sorted(_list_unsettled(iterate(jobs.values()), open_jobs))),
        settled_but_listed=tuple(sorted(settled)),
        missing_jobs=tuple(sorted(missing)),
        missing_entries=missing_entries,
        total_corrections=tuple(_find_total_drifts(snapshot, totals)),
        budget_drifts=tuple(_find_balance_drifts(snapshot, totals, iterate)),
    )


def _list_unsettled(jobs: Iterable[AuditedJob], listed_ids: Container[str]) -> Iterator[str]:
    """Yields the open jobs that are missing from a list."""
    return (job.id for job in jobs if not job.is_settled and job.id not in listed_ids)


def _group_entries(
    entries: Iterable[LedgerEntry], jobs: Container[str], totals: EntryTotals
) -> dict[str, dict[AttemptLine, LedgerEntry]]:
    """Adds the entries to `totals`. Returns those of the given jobs, summed by attempt and line, without corrections:
    a job has no trace of them."""
    booked: dict[str, dict[AttemptLine, LedgerEntry]] = {}
    for entry in entries:
        add_entry(entry, totals)
        if entry.job in jobs and not entry.correction:
            lines = booked.setdefault(entry.job, {})
            previous = lines.get((entry.attempt, entry.line))
            lines[entry.attempt, entry.line] = _add_amounts(entry, previous, 1) if previous else entry
    return booked


def _find_missing_entries(
    jobs: Iterable[AuditedJob],
    days: Container[str],
    booked: Mapping[str, Mapping[AttemptLine, LedgerEntry]],
    now: float,
) -> Iterator[LedgerEntry]:
    """Yields the differences between the costs of jobs and the ledger, for the days of the snapshot."""
    for job in jobs:
        if job.day not in days or not (job.expected_entries or job.id in booked):
            continue
        actual_entries = booked.get(job.id, {})
        expected_entries = {(derived.attempt, derived.line): derived for derived in job.expected_entries}
        for key in sorted(expected_entries.keys() | actual_entries.keys()):
            actual = actual_entries.get(key)
            expected = expected_entries.get(key) or replace(actual_entries[key], amount=0, images=0)
            missing = _add_amounts(expected, actual, -1) if actual else expected
            if missing.amount or missing.images:
                yield replace(missing, posted_at=now)


def _add_amounts(entry: LedgerEntry, other: LedgerEntry, sign: int) -> LedgerEntry:
    return replace(entry, amount=entry.amount + sign * other.amount, images=entry.images + sign * other.images)


def _find_total_drifts(snapshot: PartitionSnapshot, expected: Mapping[TotalKey, LedgerTotal]) -> Iterator[LedgerTotal]:
    actual = {total.key: total for total in snapshot.totals if total.day in snapshot.days}
    for key in sorted(expected.keys() | actual.keys()):
        amount, images = (
            (getattr(expected.get(key), field, 0) - getattr(actual.get(key), field, 0))
            for field in ("amount", "images")
        )
        if amount or images:
            yield LedgerTotal(period=key[0], account=key[1], key_id=key[2], amount=amount, images=images)


def _find_balance_drifts(
    snapshot: PartitionSnapshot, expected_totals: Mapping[TotalKey, LedgerTotal], iterate: Iterate
) -> Iterator[BudgetDrift]:
    held: Counter[tuple[str, str]] = Counter()
    for job in iterate(snapshot.jobs.values()):
        for owner in job.budget_owners:
            held[owner, job.day] += job.hold
            held[owner, job.month] += job.hold
    spent: Counter[tuple[str, str]] = Counter()
    other_totals = (total for total in snapshot.totals if total.day not in snapshot.days)
    for total in (*expected_totals.values(), *other_totals):
        if total.account.line is LedgerLine.CAPTURE and not total.is_hourly:
            for owner in list_owners(total.account.team, total.account.budget_key):
                spent[owner, total.day] += total.amount
                spent[owner, total.day[:7]] += total.amount
    windows = {*snapshot.days, *(day[:7] for day in snapshot.days)}
    derived_keys = {key for key in held.keys() | spent.keys() if key[1] in windows}
    for owner, window in sorted(derived_keys | snapshot.balances.keys()):
        balance = snapshot.balances.get((owner, window), EMPTY_BALANCE)
        drift = held[owner, window] - balance.held, spent[owner, window] - balance.spent
        if any(drift):
            yield BudgetDrift(owner=owner, window=window, held=drift[0], spent=drift[1])
