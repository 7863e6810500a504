"""What the ledger's entries add up to."""

from collections.abc import Iterable
from datetime import date, timedelta

from msgspec import Struct

from gateway.catalogue import Cell
from gateway.jobs.commit import LedgerEntry
from gateway.jobs.tables import Line

# Ten years of them.
MOST_DAYS = 3_660


class Balance(Struct, frozen=True, kw_only=True):
    """One window of a team's budget, in micro-USD: set aside for open jobs, and captured."""

    held: int = 0
    spent: int = 0


class Account(Struct, frozen=True, kw_only=True, order=True, array_like=True):
    """What a day's entries are added up by."""

    team: str
    seller: str
    model: str
    cell: Cell
    line: Line


class Total(Struct, frozen=True, kw_only=True):
    """What one day's entries of one account add up to."""

    day: str
    account: Account
    amount: int
    images: int


def account_of(entry: LedgerEntry) -> Account:
    return Account(team=entry.team, seller=entry.seller, model=entry.model, cell=entry.cell, line=entry.line)


def added_up(entries: Iterable[LedgerEntry]) -> dict[tuple[str, Account], Total]:
    """By day and account; accounts where nothing is left are there too, with 0."""
    totals: dict[tuple[str, Account], Total] = {}
    for entry in entries:
        key = entry.day, account_of(entry)
        known = totals.get(key)
        totals[key] = Total(
            day=entry.day,
            account=key[1],
            amount=entry.amount + (known.amount if known else 0),
            images=entry.images + (known.images if known else 0),
        )
    return totals


def days_between(first: str, last: str) -> list[str]:
    """ValueError for what is no day, and for more days than anybody keeps."""
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    if (end - start).days > MOST_DAYS:
        raise ValueError(f"at most {MOST_DAYS} days can be asked for at once")
    return [(start + timedelta(days=number)).isoformat() for number in range((end - start).days + 1)]
