"""Behind the back of an SQLite store."""

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from gateway.jobs.commit import LedgerEntry
from gateway.store.books import Balance

_ENTRIES = "SELECT number, entry FROM ledger"


class RawSqlite:
    """On a connection of its own: the store's lock keeps other stores out, not this."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        """Opened when it is needed first: the store makes the file."""
        if self._opened is None:
            self._opened = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def empty(self) -> None:
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            for table in self._tables():
                self.connection.execute(f"DELETE FROM {table}")  # noqa: S608

    def forget_closing(self, owner: str) -> None:
        self.connection.execute("DELETE FROM closed WHERE owner = ?", (owner,))

    def dump(self) -> dict[str, list[Any]]:
        """Without the marks of closed stores: they say nothing of any job."""
        return {
            table: sorted(self.connection.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608
            for table in self._tables()
            if table != "closed"
        }

    def _tables(self) -> list[str]:
        found = self.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return [name for (name,) in found]

    def due(self) -> dict[str, float]:
        return dict(self.connection.execute("SELECT job, at FROM due").fetchall())

    def balances(self) -> dict[tuple[str, str], Balance]:
        rows = self.connection.execute("SELECT team, window, held, spent FROM budgets")
        return {(team, window): Balance(held=held, spent=spent) for team, window, held, spent in rows}

    def ledger(self) -> tuple[LedgerEntry, ...]:
        return tuple(msgspec.json.decode(entry, type=LedgerEntry) for _, entry in self.connection.execute(_ENTRIES))

    def forget_what_is_over(self, seconds: float, now: float) -> None:
        """Nothing: here only the store forgets, by its own clock."""

    def lose_due(self, job: str) -> None:
        self._one("DELETE FROM due WHERE job = ?", job)

    def make_due(self, job: str) -> None:
        self._one("INSERT INTO due (job, at) VALUES (?, 0.0)", job)

    def lose_open(self, job: str) -> None:
        self._one("UPDATE jobs SET settled = 1.0 WHERE id = ?", job)

    def make_open(self, job: str) -> None:
        self._one("UPDATE jobs SET settled = NULL WHERE id = ?", job)

    def lose_job(self, job: str) -> None:
        self._one("DELETE FROM jobs WHERE id = ?", job)

    def change_balance(self, team: str, window: str, held: int = 0, spent: int = 0) -> None:
        change = "UPDATE budgets SET held = held + ?, spent = spent + ? WHERE team = ? AND window = ?"
        self._one(change, held, spent, team, window)

    def lose_entries(self, job: str) -> int:
        found = self.connection.execute(_ENTRIES).fetchall()
        numbers = [(number,) for number, entry in found if job.encode() in entry]
        self.connection.executemany("DELETE FROM ledger WHERE number = ?", numbers)
        return len(numbers)

    def change_totals(self, day: str, amount: int) -> None:
        self._one("UPDATE totals SET amount = amount + ? WHERE day = ?", amount, day)

    def _one(self, statement: str, *values: Any) -> None:
        assert self.connection.execute(statement, values).rowcount == 1, "the damage is not done"
