"""The way behind a store's back: to see everything that it keeps, and to do damage."""

from typing import Any, Protocol

from gateway.jobs.commit import LedgerEntry
from gateway.store.ledger_totals import BudgetBalance


class RawStore(Protocol):
    def close(self) -> None: ...

    def delete_everything(self) -> None:
        """Everything is gone, under a store that is open."""

    def dump_everything(self) -> Any:
        """Everything that is kept; equal if and only if nothing has changed."""

    def delete_close_marker(self, replica_id: str) -> None:
        """What a store that was closed left behind, and one that was killed does not."""

    def read_due_times(self) -> dict[str, float]:
        """The jobs that somebody will look at, and when."""

    def read_balances(self) -> dict[tuple[str, str], BudgetBalance]:
        """Of every team and window in which something has happened."""

    def read_ledger(self) -> tuple[LedgerEntry, ...]:
        """Of all days."""

    def expire_keys(self, seconds: float, now: float) -> None:
        """Stands in for a server that forgets by itself, on a clock that no test can move."""

    def delete_due_entry(self, job_id: str) -> None: ...

    def insert_due_entry(self, job_id: str) -> None: ...

    def delete_open_entry(self, job_id: str) -> None:
        """From the list of what is open."""

    def insert_open_entry(self, job_id: str) -> None: ...

    def delete_job(self, job_id: str) -> None: ...

    def change_balance(self, team: str, window: str, held: int = 0, spent: int = 0) -> None: ...

    def delete_ledger_entries(self, job_id: str) -> int:
        """How many ledger entries are gone."""

    def change_totals(self, day: str, amount: int) -> None:
        """Of every account of that day."""
