"""Sums of ledger entries: totals of days and hours per account and API key, and a budget's balance."""

from collections.abc import Iterable
from datetime import date, timedelta

from msgspec import Struct

from gateway.jobs.commit import LedgerEntry
from gateway.jobs.transition_tables import LedgerLine
from providers.orders import Cell

# Ten years.
MAX_DAYS = 3_660
DAY_LENGTH = len("2026-11-28")


class BudgetBalance(Struct, frozen=True, kw_only=True):
    """The balance of a team or API key in a day or month, in micro-USD: held for open jobs, and spent."""

    held: int = 0
    spent: int = 0


class LedgerAccount(Struct, frozen=True, kw_only=True, order=True, array_like=True):
    """The fields by which entries are summed, besides the API key. `budget_key`: those of balances of API keys."""

    team: str
    seller: str
    model: str
    cell: Cell
    line: LedgerLine
    budget_key: str = ""


TotalKey = tuple[str, LedgerAccount, str]


class LedgerTotal(Struct, frozen=True, kw_only=True):
    """The sum of the entries of one account and API key in one period: a day (2026-11-28) or an hour (2026-11-28T09).

    `key_id`: empty for jobs without a key, and in totals of older versions.
    """

    period: str
    account: LedgerAccount
    amount: int
    images: int
    key_id: str = ""

    @property
    def key(self) -> TotalKey:
        return self.period, self.account, self.key_id

    @property
    def day(self) -> str:
        return self.period[:DAY_LENGTH]

    @property
    def is_hourly(self) -> bool:
        return len(self.period) > DAY_LENGTH


class Correction(Struct, frozen=True, kw_only=True):
    """Entries of one order that no commit of a job books. They have one team, day and hour, and no captures: what a
    team has paid is not corrected."""

    id: str
    entries: tuple[LedgerEntry, ...]


EMPTY_BALANCE = BudgetBalance()
EntryTotals = dict[TotalKey, LedgerTotal]


def sum_balances(balances: Iterable[BudgetBalance]) -> BudgetBalance:
    held, spent = 0, 0
    for balance in balances:
        held += balance.held
        spent += balance.spent
    return BudgetBalance(held=held, spent=spent)


def ledger_account(entry: LedgerEntry) -> LedgerAccount:
    return LedgerAccount(
        team=entry.team,
        seller=entry.seller,
        model=entry.model,
        cell=entry.cell,
        line=entry.line,
        budget_key=entry.budget_key,
    )


def format_hour(day: str, hour: int) -> str:
    return f"{day}T{hour:02}"


def list_day_hours(day: str) -> list[str]:
    return [format_hour(day, hour) for hour in range(24)]


def add_entry(entry: LedgerEntry, totals: EntryTotals) -> None:
    """Adds an entry to the totals of its day and hour. A total of 0 is kept.

    Entries of older versions have no hour, so the hours of a day may sum up to less than the day.
    """
    account = ledger_account(entry)
    periods = (entry.day,) if entry.hour is None else (entry.day, format_hour(entry.day, entry.hour))
    for period in periods:
        previous = totals.get((period, account, entry.key_id))
        totals[period, account, entry.key_id] = LedgerTotal(
            period=period,
            account=account,
            amount=entry.amount + (previous.amount if previous else 0),
            images=entry.images + (previous.images if previous else 0),
            key_id=entry.key_id,
        )


def sum_entries(entries: Iterable[LedgerEntry]) -> EntryTotals:
    """Sums entries by day, hour, account and API key. Sums of 0 are included."""
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
