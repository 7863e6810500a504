"""Writes ledger entries, totals and budgets, for commits and repairs."""

from collections.abc import Iterable
from sqlite3 import Connection

import msgspec

from gateway.jobs.commit import LedgerEntry
from gateway.store.ledger_totals import DayTotal, LedgerAccount

JSON_ENCODER = msgspec.json.Encoder()
ENTRY_DECODER = msgspec.json.Decoder(LedgerEntry)
ACCOUNT_DECODER = msgspec.json.Decoder(LedgerAccount)

_INSERT_ENTRY = "INSERT INTO ledger (day, team, entry) VALUES (?, ?, ?)"
_ADD_TOTAL = """INSERT INTO totals (day, account, team, amount, images) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (day, account) DO UPDATE SET amount = amount + excluded.amount, images = images + excluded.images"""
_ADD_BUDGET = """INSERT INTO budgets (window, team, held, spent) VALUES (?, ?, ?, ?)
ON CONFLICT (window, team) DO UPDATE SET held = held + excluded.held, spent = spent + excluded.spent"""


def insert_entries(db: Connection, entries: Iterable[LedgerEntry]) -> None:
    db.executemany(_INSERT_ENTRY, [(entry.day, entry.team, JSON_ENCODER.encode(entry)) for entry in entries])


def add_totals(db: Connection, totals: Iterable[DayTotal]) -> None:
    rows = [
        (total.day, JSON_ENCODER.encode(total.account).decode(), total.account.team, total.amount, total.images)
        for total in totals
    ]
    db.executemany(_ADD_TOTAL, rows)


def update_budgets(db: Connection, changes: Iterable[tuple[str, str, int, int]]) -> None:
    """Adds to budgets. Each change is a window, a team, and the amounts to add to held and spent."""
    db.executemany(_ADD_BUDGET, list(changes))
