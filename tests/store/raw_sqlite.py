"""Direct access to the data of an SQLite store."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from gateway.jobs.commit import LedgerEntry
from gateway.store.ledger_totals import BudgetBalance

_SELECT_ENTRIES = "SELECT number, entry FROM ledger"


class RawSqlite:
    """Reads and changes the database on its own connection: the store's lock only excludes other stores."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, opened when it is first used: the store creates the file."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def delete_everything(self) -> None:
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            for table in self._list_tables():
                self.connection.execute(f"DELETE FROM {table}")  # noqa: S608

    def undo_close(self, replica_id: str, now: float) -> None:
        self.connection.execute("DELETE FROM closed_replicas WHERE replica_id = ?", (replica_id,))

    def dump_everything(self) -> dict[str, list[Any]]:
        """Leaves out the marks of closed replicas, which belong to no job."""
        return {
            table: sorted(self.connection.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608
            for table in self._list_tables()
            if table != "closed_replicas"
        }

    def _list_tables(self) -> list[str]:
        found = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return [name for (name,) in found]

    def read_due_times(self) -> dict[str, float]:
        return dict(self.connection.execute("SELECT job_id, due_at FROM due").fetchall())

    def read_balances(self) -> dict[tuple[str, str], BudgetBalance]:
        rows = self.connection.execute("SELECT owner, window, held, spent FROM budgets")
        return {(owner, window): BudgetBalance(held=held, spent=spent) for owner, window, held, spent in rows}

    def read_ledger(self) -> tuple[LedgerEntry, ...]:
        return tuple(
            msgspec.json.decode(entry, type=LedgerEntry) for _, entry in self.connection.execute(_SELECT_ENTRIES)
        )

    def expire_keys(self, seconds: float, now: float) -> None:
        """Does nothing: only the store deletes expired rows, by its own clock."""

    def delete_due_entry(self, job_id: str) -> None:
        self._change_one_row("DELETE FROM due WHERE job_id = ?", job_id)

    def insert_due_entry(self, job_id: str) -> None:
        self._change_one_row("INSERT INTO due (job_id, due_at) VALUES (?, 0.0)", job_id)

    def delete_open_entry(self, job_id: str) -> None:
        self._change_one_row("UPDATE jobs SET settled_at = 1.0 WHERE id = ?", job_id)

    def insert_open_entry(self, job_id: str) -> None:
        self._change_one_row("UPDATE jobs SET settled_at = NULL WHERE id = ?", job_id)

    def delete_job(self, job_id: str) -> None:
        self._change_one_row("DELETE FROM jobs WHERE id = ?", job_id)

    def change_balance(self, owner: str, window: str, held: int = 0, spent: int = 0) -> None:
        change = "UPDATE budgets SET held = held + ?, spent = spent + ? WHERE owner = ? AND window = ?"
        self._change_one_row(change, held, spent, owner, window)

    def delete_ledger_entries(self, job_id: str) -> int:
        found = self.connection.execute(_SELECT_ENTRIES).fetchall()
        numbers = [(number,) for number, entry in found if job_id.encode() in entry]
        self.connection.executemany("DELETE FROM ledger WHERE number = ?", numbers)
        return len(numbers)

    def change_totals(self, period: str, amount: int) -> None:
        statement = "UPDATE totals SET amount = amount + ?, is_uncounted = 1 WHERE day = ?"
        if "T" in period:
            statement = "UPDATE hour_totals SET amount = amount + ? WHERE hour = ?"
        self._change_one_row(statement, amount, period)

    def delete_statistics(self) -> None:
        self.connection.execute("DELETE FROM lifetime_totals")
        self.connection.execute("UPDATE totals SET counted_amount = 0, counted_images = 0, is_uncounted = 1")

    def _change_one_row(self, statement: str, *values: Any) -> None:
        assert self.connection.execute(statement, values).rowcount == 1, "the statement changed no row"
