"""The money of a store in memory: ledger entries, totals and balances of budgets."""

from collections import Counter
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from gateway.jobs.budgets import is_team, list_budget_windows, list_owners
from gateway.jobs.commit import Commit, LedgerEntry
from gateway.jobs.job import Job
from gateway.jobs.transition_tables import LedgerLine
from gateway.store.base import BudgetExceeded
from gateway.store.ledger_sums import LineSum, SumCollector, TotalsQuery
from gateway.store.ledger_totals import (
    EMPTY_BALANCE,
    BudgetBalance,
    Correction,
    EntryTotals,
    LedgerAccount,
    LedgerTotal,
    sum_balances,
    sum_entries,
)
from gateway.store.statistics import LifetimeTotal

MONTH_FORMAT = "YYYY-MM"


class MemoryLedger:
    """Entries in the order of their creation, and the totals and balances that were changed with them."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        self.totals: EntryTotals = {}
        self.balances: dict[tuple[str, str], BudgetBalance] = {}
        self.corrections: dict[str, str] = {}
        self.counted_totals: EntryTotals = {}
        self.lifetime_totals: dict[LedgerAccount, LifetimeTotal] = {}

    def find_exceeded_budget(self, commit: Commit) -> BudgetExceeded | None:
        for limit in commit.budget_limits:
            balance = sum_balances(self.load_balances(limit.owner, limit.window.parts).values())
            if balance.held + balance.spent + commit.job.hold > limit.amount:
                return BudgetExceeded(limit=limit, spent=balance.spent, held=balance.held)
        return None

    def book_commit(self, commit: Commit) -> None:
        for change in commit.budget_changes:
            self.change_balance(change.owner, change.window, change.hold, change.spend)
        if commit.ledger_entries:
            self.entries += commit.ledger_entries
            self.add_totals(sum_entries(commit.ledger_entries).values())

    def delete_entries(self, day: str, team: str) -> None:
        self.entries = [entry for entry in self.entries if (entry.day, entry.team) != (day, team)]

    def post_correction(self, correction: Correction) -> bool:
        if correction.id in self.corrections:
            return False
        self.corrections[correction.id] = correction.entries[0].day
        self.entries += correction.entries
        self.add_totals(sum_entries(correction.entries).values())
        return True

    def change_balance(self, owner: str, window: str, held: int, spent: int) -> None:
        """Adds the amounts to a balance."""
        balance = self.balances.get((owner, window), EMPTY_BALANCE)
        self.balances[owner, window] = BudgetBalance(held=balance.held + held, spent=balance.spent + spent)

    def add_totals(self, totals: Iterable[LedgerTotal]) -> None:
        for total in totals:
            previous = self.totals.get(total.key)
            amount = total.amount + (previous.amount if previous else 0)
            images = total.images + (previous.images if previous else 0)
            self.totals[total.key] = replace(total, amount=amount, images=images)

    def update_lifetime_totals(self) -> tuple[LifetimeTotal, ...]:
        """Adds what the day totals gained since they were last counted."""
        days = {key: total for key, total in self.totals.items() if not total.is_hourly}
        for key, total in days.items():
            counted = self.counted_totals.get(key)
            amount = total.amount - (counted.amount if counted else 0)
            images = total.images - (counted.images if counted else 0)
            account = replace(total.account, budget_key="")
            lifetime = self.lifetime_totals.get(account, LifetimeTotal(account=account))
            self.lifetime_totals[account] = LifetimeTotal(
                account=account,
                charged=lifetime.charged + max(0, amount),
                charged_images=lifetime.charged_images + max(0, images),
                corrected=lifetime.corrected + max(0, -amount),
                corrected_images=lifetime.corrected_images + max(0, -images),
            )
        self.counted_totals = days
        return tuple(self.lifetime_totals.values())

    def list_balances(self, windows: Collection[str]) -> dict[tuple[str, str], BudgetBalance]:
        return {key: balance for key, balance in self.balances.items() if key[1] in windows and is_team(key[0])}

    def load_balances(self, owner: str, windows: Iterable[str]) -> dict[str, BudgetBalance]:
        return {window: self.balances.get((owner, window), EMPTY_BALANCE) for window in windows}

    def list_entries(self, day: str, team: str | None) -> tuple[LedgerEntry, ...]:
        return tuple(entry for entry in self.entries if entry.day == day and team in (None, entry.team))

    def list_totals(self, days: Collection[str], team: str | None) -> tuple[LedgerTotal, ...]:
        """Lists the totals of these days."""
        totals = [
            total for total in self.totals.values() if total.period in days and team in (None, total.account.team)
        ]
        return tuple(sorted(totals, key=lambda total: total.key))

    def sum_totals(self, query: TotalsQuery) -> tuple[LineSum, ...]:
        collector, periods = SumCollector(query), frozenset(query.list_periods())
        collector.add_totals(total for total in self.totals.values() if total.period in periods)
        return collector.list_sums()

    def delete_before(self, first_entry_day: str, first_total_day: str, first_balance_day: str) -> None:
        """Deletes entries and hours, the totals of days, and the balances of days, each before its day. The balances of
        months are kept."""
        self.entries = [entry for entry in self.entries if entry.day >= first_entry_day]
        self.corrections = {name: day for name, day in self.corrections.items() if day >= first_entry_day}
        self.update_lifetime_totals()
        self.totals = {
            key: total
            for key, total in self.totals.items()
            if total.day >= (first_entry_day if total.is_hourly else first_total_day)
        }
        self.counted_totals = {key: total for key, total in self.totals.items() if not total.is_hourly}
        self.balances = {
            (owner, window): balance
            for (owner, window), balance in self.balances.items()
            if window >= first_balance_day or len(window) == len(MONTH_FORMAT)
        }


def compute_balances(jobs: Iterable[Job], entries: Iterable[LedgerEntry]) -> dict[tuple[str, str], BudgetBalance]:
    """Computes the balances from jobs and ledger entries alone."""
    held: Counter[tuple[str, str]] = Counter()
    spent: Counter[tuple[str, str]] = Counter()
    for job in jobs:
        for owner in list_owners(job.team, job.budget_key):
            for window in list_budget_windows(job.created_at):
                held[owner, window] += job.hold
    for entry in entries:
        if entry.line is LedgerLine.CAPTURE:
            for owner in list_owners(entry.team, entry.budget_key):
                for window in (entry.day, entry.day[:7]):
                    spent[owner, window] += entry.amount
    return {key: BudgetBalance(held=held[key], spent=spent[key]) for key in held.keys() | spent.keys()}
