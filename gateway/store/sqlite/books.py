"""Rows of money: what commits and repairs both write."""

from collections.abc import Iterable
from sqlite3 import Connection

import msgspec

from gateway.jobs.commit import LedgerEntry
from gateway.store.books import Account, Total

JSON = msgspec.json.Encoder()
ENTRY = msgspec.json.Decoder(LedgerEntry)
ACCOUNT = msgspec.json.Decoder(Account)

_APPEND = "INSERT INTO ledger (day, team, entry) VALUES (?, ?, ?)"
_ADD = """INSERT INTO totals (day, account, team, amount, images) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (day, account) DO UPDATE SET amount = amount + excluded.amount, images = images + excluded.images"""
_MOVE = """INSERT INTO budgets (window, team, held, spent) VALUES (?, ?, ?, ?)
ON CONFLICT (window, team) DO UPDATE SET held = held + excluded.held, spent = spent + excluded.spent"""


def append(db: Connection, entries: Iterable[LedgerEntry]) -> None:
    db.executemany(_APPEND, [(entry.day, entry.team, JSON.encode(entry)) for entry in entries])


def add_totals(db: Connection, totals: Iterable[Total]) -> None:
    rows = [(one.day, JSON.encode(one.account).decode(), one.account.team, one.amount, one.images) for one in totals]
    db.executemany(_ADD, rows)


def move_budgets(db: Connection, moves: Iterable[tuple[str, str, int, int]]) -> None:
    """Each is a window, a team, and what is added to held and spent."""
    db.executemany(_MOVE, list(moves))
