"""Working out anew, from jobs and ledger, every number that was derived from them; pure. The stores read and mend."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import LedgerEntry, difference, windows_of
from gateway.jobs.job import Job
from gateway.jobs.tables import Line
from gateway.store.books import Account, Balance, Total, added_up


class Snapshot(Struct, frozen=True, kw_only=True):
    """One moment of a partition: the jobs that are listed as open or due, and what was derived from them.

    `open` and `due` name jobs, also such as are gone. `ledger` holds whole days, `totals` those days and all others of
    their months, `balances` the windows that these days are and belong to.
    """

    jobs: Mapping[str, Job]
    open: frozenset[str]
    due: frozenset[str]
    days: tuple[str, ...]
    ledger: tuple[LedgerEntry, ...]
    totals: tuple[Total, ...]
    balances: Mapping[tuple[str, str], Balance]


class Drift(Struct, frozen=True, kw_only=True):
    """What has to be added to a budget's window to make it right."""

    team: str
    window: str
    held: int
    spent: int


class Findings(Struct, frozen=True, kw_only=True):
    """What was wrong in a partition. `lost` are jobs that are named and not there: nothing brings them back."""

    not_due: tuple[str, ...] = ()
    not_open: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()
    totals: tuple[Total, ...] = ()
    balances: tuple[Drift, ...] = ()

    @property
    def violations(self) -> int:
        lists = (self.not_due, self.not_open, self.settled, self.lost, self.entries, self.totals, self.balances)
        return sum(len(found) for found in lists)


def days_to_audit(now: float, jobs: Iterable[Job]) -> tuple[str, ...]:
    """Today and yesterday, and the days that open jobs belong to: all others have been audited when they were over."""
    today = datetime.fromtimestamp(now, UTC).date()
    recent = {today.isoformat(), (today - timedelta(days=1)).isoformat()}
    return tuple(sorted(recent | {windows_of(job.created)[0] for job in jobs}))


def days_of_month(month: str) -> tuple[str, ...]:
    day = datetime.fromisoformat(f"{month}-01").date()
    days = (day + timedelta(days=number) for number in range(31))
    return tuple(one.isoformat() for one in days if one.isoformat().startswith(month))


def examine(seen: Snapshot, now: float) -> Findings:
    """Everything that differs from what jobs and ledger say."""
    missing = tuple(_missing_entries(seen, now))
    totals = added_up((*seen.ledger, *missing))
    unsettled = {name for name, job in seen.jobs.items() if not job.is_settled}
    return Findings(
        not_due=tuple(sorted(unsettled - seen.due)),
        not_open=tuple(sorted(unsettled - seen.open)),
        settled=tuple(sorted((seen.due | seen.open) & (seen.jobs.keys() - unsettled))),
        lost=tuple(sorted((seen.due | seen.open) - seen.jobs.keys())),
        entries=missing,
        totals=tuple(_total_drifts(seen, totals)),
        balances=tuple(_balance_drifts(seen, totals)),
    )


def _missing_entries(seen: Snapshot, now: float) -> Iterator[LedgerEntry]:
    """What a job says it cost and the ledger does not, or the other way round; for the days whose ledger is kept."""
    booked: defaultdict[str, dict[tuple[int, Line], LedgerEntry]] = defaultdict(dict)
    for entry in seen.ledger:
        lines = booked[entry.job]
        known = lines.get((entry.attempt, entry.line))
        lines[entry.attempt, entry.line] = _sum(entry, known, 1) if known else entry
    for job in seen.jobs.values():
        if windows_of(job.created)[0] not in seen.days:
            continue
        said = {(one.attempt, one.line): one for one in difference(None, job, now).ledger}
        for key in sorted(said.keys() | booked[job.id].keys()):
            found = booked[job.id].get(key)
            right = said.get(key) or replace(booked[job.id][key], amount=0, images=0)
            missing = _sum(right, found, -1) if found else right
            if missing.amount or missing.images:
                yield replace(missing, at=now)


def _sum(entry: LedgerEntry, other: LedgerEntry, sign: int) -> LedgerEntry:
    return replace(entry, amount=entry.amount + sign * other.amount, images=entry.images + sign * other.images)


def _total_drifts(seen: Snapshot, right: Mapping[tuple[str, Account], Total]) -> Iterator[Total]:
    found = {(total.day, total.account): total for total in seen.totals if total.day in seen.days}
    for key in sorted(right.keys() | found.keys()):
        amount, images = (
            (getattr(right.get(key), name, 0) - getattr(found.get(key), name, 0)) for name in ("amount", "images")
        )
        if amount or images:
            yield Total(day=key[0], account=key[1], amount=amount, images=images)


def _balance_drifts(seen: Snapshot, right: Mapping[tuple[str, Account], Total]) -> Iterator[Drift]:
    held: Counter[tuple[str, str]] = Counter()
    for job in seen.jobs.values():
        for window in windows_of(job.created):
            held[job.team, window] += job.hold
    spent: Counter[tuple[str, str]] = Counter()
    elsewhere = (total for total in seen.totals if total.day not in seen.days)
    for total in (*right.values(), *elsewhere):
        if total.account.line is Line.CAPTURE:
            for window in (total.day, total.day[:7]):
                spent[total.account.team, window] += total.amount
    windows = {*seen.days, *(day[:7] for day in seen.days)}
    derived = {key for key in held.keys() | spent.keys() if key[1] in windows}
    for team, window in sorted(derived | seen.balances.keys()):
        found = seen.balances.get((team, window), Balance())
        drift = held[team, window] - found.held, spent[team, window] - found.spent
        if any(drift):
            yield Drift(team=team, window=window, held=drift[0], spent=drift[1])
