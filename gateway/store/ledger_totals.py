"""What the ledger's entries add up to."""

from collections.abc import Iterable
from datetime import date, timedelta

from msgspec import Struct

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.transition_tables import LedgerLine
from providers.orders import Cell

# Ten years of them.
MAX_DAYS = 3_660


class BudgetBalance(Struct, frozen=True, kw_only=True):
    """One window of a team's budget, in micro-USD: set aside for open jobs, and captured."""

    held: int = 0
    spent: int = 0


class LedgerAccount(Struct, frozen=True, kw_only=True, order=True, array_like=True):
    """What a day's entries are added up by."""

    team: str
    seller: str
    model: str
    cell: Cell
    line: LedgerLine


class DayTotal(Struct, frozen=True, kw_only=True):
    """What one day's entries of one account add up to."""

    day: str
    account: LedgerAccount
    amount: int
    images: int


def ledger_account(entry: LedgerEntry) -> LedgerAccount:
    return LedgerAccount(team=entry.team, seller=entry.seller, model=entry.model, cell=entry.cell, line=entry.line)


def sum_entries(entries: Iterable[LedgerEntry]) -> dict[tuple[str, LedgerAccount], DayTotal]:
    """By day and account; accounts where nothing is left are there too, with 0."""
    totals: dict[tuple[str, LedgerAccount], DayTotal] = {}
    for entry in entries:
        key = entry.day, ledger_account(entry)
        previous = totals.get(key)
        totals[key] = DayTotal(
            day=entry.day,
            account=key[1],
            amount=entry.amount + (previous.amount if previous else 0),
            images=entry.images + (previous.images if previous else 0),
        )
    return totals


def list_days(first_day: str, last_day: str) -> list[str]:
    """ValueError for what is no day, and for more days than anybody keeps."""
    start, end = date.fromisoformat(first_day), date.fromisoformat(last_day)
    if (end - start).days > MAX_DAYS:
        raise ValueError(f"at most {MAX_DAYS} days can be asked for at once")
    return [(start + timedelta(days=offset)).isoformat() for offset in range((end - start).days + 1)]
