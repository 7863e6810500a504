"""Recomputes every number that is derived from jobs and the ledger, and compares it with the stored one.

Pure: the stores read the snapshot and write the repairs.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import LedgerEntry, build_commit, list_budget_windows
from gateway.jobs.job import Job
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.ledger_totals import BudgetBalance, DayTotal, LedgerAccount, sum_entries


class PartitionSnapshot(Struct, frozen=True, kw_only=True):
    """A consistent snapshot of a partition: jobs that are listed as open or due, and the numbers derived from jobs.

    `open_jobs` and `due_jobs` may list jobs that do not exist. `ledger_entries` covers whole days. `totals` covers
    these days and all others of the same months. `balances` covers the budget windows of these days and months.
    """

    jobs: Mapping[str, Job]
    open_jobs: frozenset[str]
    due_jobs: frozenset[str]
    days: tuple[str, ...]
    ledger_entries: tuple[LedgerEntry, ...]
    totals: tuple[DayTotal, ...]
    balances: Mapping[tuple[str, str], BudgetBalance]


class BudgetDrift(Struct, frozen=True, kw_only=True):
    """The amounts to add to a budget window to correct it."""

    team: str
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
    total_corrections: tuple[DayTotal, ...] = ()
    budget_drifts: tuple[BudgetDrift, ...] = ()

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


def list_audit_days(now: float, jobs: Iterable[Job]) -> tuple[str, ...]:
    """Returns today, yesterday and the days of open jobs. All other days were audited after they ended."""
    today = datetime.fromtimestamp(now, UTC).date()
    recent = {today.isoformat(), (today - timedelta(days=1)).isoformat()}
    return tuple(sorted(recent | {list_budget_windows(job.created_at)[0] for job in jobs}))


def list_month_days(month: str) -> tuple[str, ...]:
    day = datetime.fromisoformat(f"{month}-01").date()
    days = (day + timedelta(days=offset) for offset in range(31))
    return tuple(month_day.isoformat() for month_day in days if month_day.isoformat().startswith(month))


def find_discrepancies(snapshot: PartitionSnapshot, now: float) -> AuditReport:
    """Returns every difference between the stored numbers and those that follow from jobs and ledger."""
    missing_entries = tuple(_find_missing_entries(snapshot, now))
    totals = sum_entries((*snapshot.ledger_entries, *missing_entries))
    unsettled = {job_id for job_id, job in snapshot.jobs.items() if not job.is_settled}
    return AuditReport(
        not_due=tuple(sorted(unsettled - snapshot.due_jobs)),
        not_open=tuple(sorted(unsettled - snapshot.open_jobs)),
        settled_but_listed=tuple(sorted((snapshot.due_jobs | snapshot.open_jobs) & (snapshot.jobs.keys() - unsettled))),
        missing_jobs=tuple(sorted((snapshot.due_jobs | snapshot.open_jobs) - snapshot.jobs.keys())),
        missing_entries=missing_entries,
        total_corrections=tuple(_find_total_drifts(snapshot, totals)),
        budget_drifts=tuple(_find_balance_drifts(snapshot, totals)),
    )


def _find_missing_entries(snapshot: PartitionSnapshot, now: float) -> Iterator[LedgerEntry]:
    """Yields the differences between the costs of jobs and the ledger, for the days of the snapshot."""
    booked: defaultdict[str, dict[tuple[int, LedgerLine], LedgerEntry]] = defaultdict(dict)
    for entry in snapshot.ledger_entries:
        lines = booked[entry.job]
        previous = lines.get((entry.attempt, entry.line))
        lines[entry.attempt, entry.line] = _add_amounts(entry, previous, 1) if previous else entry
    for job in snapshot.jobs.values():
        if list_budget_windows(job.created_at)[0] not in snapshot.days:
            continue
        expected_entries = {
            (derived.attempt, derived.line): derived for derived in build_commit(None, job, now).ledger_entries
        }
        for key in sorted(expected_entries.keys() | booked[job.id].keys()):
            actual = booked[job.id].get(key)
            expected = expected_entries.get(key) or replace(booked[job.id][key], amount=0, images=0)
            missing = _add_amounts(expected, actual, -1) if actual else expected
            if missing.amount or missing.images:
                yield replace(missing, posted_at=now)


def _add_amounts(entry: LedgerEntry, other: LedgerEntry, sign: int) -> LedgerEntry:
    return replace(entry, amount=entry.amount + sign * other.amount, images=entry.images + sign * other.images)


def _find_total_drifts(
    snapshot: PartitionSnapshot, expected: Mapping[tuple[str, LedgerAccount], DayTotal]
) -> Iterator[DayTotal]:
    actual = {(total.day, total.account): total for total in snapshot.totals if total.day in snapshot.days}
    for key in sorted(expected.keys() | actual.keys()):
        amount, images = (
            (getattr(expected.get(key), field, 0) - getattr(actual.get(key), field, 0))
            for field in ("amount", "images")
        )
        if amount or images:
            yield DayTotal(day=key[0], account=key[1], amount=amount, images=images)


def _find_balance_drifts(
    snapshot: PartitionSnapshot, expected_totals: Mapping[tuple[str, LedgerAccount], DayTotal]
) -> Iterator[BudgetDrift]:
    held: Counter[tuple[str, str]] = Counter()
    for job in snapshot.jobs.values():
        for window in list_budget_windows(job.created_at):
            held[job.team, window] += job.hold
    spent: Counter[tuple[str, str]] = Counter()
    other_totals = (total for total in snapshot.totals if total.day not in snapshot.days)
    for total in (*expected_totals.values(), *other_totals):
        if total.account.line is LedgerLine.CAPTURE:
            for window in (total.day, total.day[:7]):
                spent[total.account.team, window] += total.amount
    windows = {*snapshot.days, *(day[:7] for day in snapshot.days)}
    derived_keys = {key for key in held.keys() | spent.keys() if key[1] in windows}
    for team, window in sorted(derived_keys | snapshot.balances.keys()):
        balance = snapshot.balances.get((team, window), BudgetBalance())
        drift = held[team, window] - balance.held, spent[team, window] - balance.spent
        if any(drift):
            yield BudgetDrift(team=team, window=window, held=drift[0], spent=drift[1])
