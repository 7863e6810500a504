"""Direct access to a store's data, past the store: to read everything, and to damage it."""

from typing import Any, Protocol

from gateway.jobs.commit import LedgerEntry
from gateway.store.ledger_totals import BudgetBalance


class RawStore(Protocol):
    def close(self) -> None: ...

    def delete_everything(self) -> None:
        """Deletes all data of an open store."""

    def dump_everything(self) -> Any:
        """Returns all data. Two results are equal if and only if nothing has changed."""

    def undo_close(self, replica_id: str, now: float) -> None:
        """Changes what a closed store leaves into what a killed one leaves."""

    def read_due_times(self) -> dict[str, float]:
        """Returns the due time of each job that has one."""

    def read_balances(self) -> dict[tuple[str, str], BudgetBalance]:
        """Returns the balances of all owners and windows."""

    def read_ledger(self) -> tuple[LedgerEntry, ...]:
        """Returns the entries of all days."""

    def expire_keys(self, seconds: float, now: float) -> None:
        """Expires keys as the server would: no test can move the server's clock."""

    def delete_due_entry(self, job_id: str) -> None: ...

    def insert_due_entry(self, job_id: str) -> None: ...

    def delete_open_entry(self, job_id: str) -> None:
        """Deletes the job from the list of open jobs."""

    def insert_open_entry(self, job_id: str) -> None: ...

    def delete_job(self, job_id: str) -> None: ...

    def change_balance(self, owner: str, window: str, held: int = 0, spent: int = 0) -> None: ...

    def delete_ledger_entries(self, job_id: str) -> int:
        """Deletes the job's ledger entries and returns their number."""

    def delete_statistics(self) -> None:
        """Deletes what the statistics of the store are read from, as in a store of an earlier version."""

    def change_totals(self, period: str, amount: int) -> None:
        """Adds the amount to the total of every account of that day or hour."""
