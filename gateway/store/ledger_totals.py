"""Sums of ledger entries: day totals per account, and a budget's balance."""

from collections.abc import Iterable
from datetime import date, timedelta

from msgspec import Struct

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.transition_tables import LedgerLine
from providers.orders import Cell

# Ten years.
MAX_DAYS = 3_660


class BudgetBalance(Struct, frozen=True, kw_only=True):
    """One window of a team's budget, in micro-USD: held for open jobs, and spent."""

    held: int = 0
    spent: int = 0


class LedgerAccount(Struct, frozen=True, kw_only=True, order=True, array_like=True):
    """The fields by which a day's entries are summed."""

    team: str
    seller: str
    model: str
    cell: Cell
    line: LedgerLine


class DayTotal(Struct, frozen=True, kw_only=True):
    """The sum of one day's entries of one account."""

    day: str
    account: LedgerAccount
    amount: int
    images: int


EntryTotals = dict[tuple[str, LedgerAccount], DayTotal]


def ledger_account(entry: LedgerEntry) -> LedgerAccount:
    return LedgerAccount(team=entry.team, seller=entry.seller, model=entry.model, cell=entry.cell, line=entry.line)


def add_entry(entry: LedgerEntry, totals: EntryTotals) -> None:
    """Adds an entry to the total of its day and account. A total of 0 is kept."""
    key = entry.day, ledger_account(entry)
    previous = totals.get(key)
    totals[key] = DayTotal(
        day=entry.day,
        account=key[1],
        amount=entry.amount + (previous.amount if previous else 0),
        images=entry.images + (previous.images if previous else 0),
    )


def sum_entries(entries: Iterable[LedgerEntry]) -> EntryTotals:
    """Sums entries by day and account. Accounts whose sum is 0 are included."""
    totals: EntryTotals = {}
    for entry in entries:
        add_entry(entry, totals)
    return totals


def list_days(first_day: str, last_day: str) -> list[str]:
    """Lists the days of a period, both ends included. Raises ValueError if a date is invalid or there are more than
    MAX_DAYS."""
    start, end = date.fromisoformat(first_day), date.fromisoformat(last_day)
    if (end - start).days > MAX_DAYS:
        raise ValueError(f"Invalid period: {first_day} to {last_day} is longer than {MAX_DAYS} days.")
    return [(start + timedelta(days=offset)).isoformat() for offset in range((end - start).days + 1)]
