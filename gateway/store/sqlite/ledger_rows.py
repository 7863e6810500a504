"""Writes ledger entries, totals and budgets, for commits and repairs, and reads budgets."""

from collections.abc import Iterable, Mapping
from sqlite3 import Connection

import msgspec

from gateway.jobs.commit import LedgerEntry
from gateway.store.ledger_totals import BudgetBalance, Correction, LedgerAccount, LedgerTotal, sum_entries

JSON_ENCODER = msgspec.json.Encoder()
ENTRY_DECODER = msgspec.json.Decoder(LedgerEntry)
ACCOUNT_DECODER = msgspec.json.Decoder(LedgerAccount)

_INSERT_ENTRY = "INSERT INTO ledger (day, team, entry, is_irregular) VALUES (?, ?, ?, ?)"
_SELECT_PAGE = "SELECT number, team FROM ledger WHERE day = ? AND number > ? ORDER BY number LIMIT ?"
_DELETE_ENTRY = "DELETE FROM ledger WHERE number = ?"
# The number of entries to look at in one transaction. That takes a few milliseconds, during which other writes wait.
DELETION_PAGE_ENTRIES = 1_000
_INSERT_CORRECTION = "INSERT OR IGNORE INTO corrections (id, day) VALUES (?, ?)"
_ADD_DAY_TOTAL = """INSERT INTO totals (day, account, key_id, team, amount, images) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (day, account, key_id) DO UPDATE
SET amount = amount + excluded.amount, images = images + excluded.images, is_uncounted = 1"""
_ADD_HOUR_TOTAL = """INSERT INTO hour_totals (hour, account, key_id, team, amount, images) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (hour, account, key_id) DO UPDATE
SET amount = amount + excluded.amount, images = images + excluded.images"""
_ADD_BUDGET = """INSERT INTO budgets (window, owner, held, spent) VALUES (?, ?, ?, ?)
ON CONFLICT (window, owner) DO UPDATE SET held = held + excluded.held, spent = spent + excluded.spent"""
_SELECT_BALANCES = "SELECT owner, window, held, spent FROM budgets WHERE window IN (SELECT value FROM json_each(?))"
_SELECT_BALANCE = "SELECT held, spent FROM budgets WHERE window = ? AND owner = ?"


def insert_entries(db: Connection, entries: Iterable[LedgerEntry]) -> None:
    rows = [(entry.day, entry.team, JSON_ENCODER.encode(entry), entry.is_irregular) for entry in entries]
    db.executemany(_INSERT_ENTRY, rows)


def delete_entries(db: Connection, day: str, team: str, after: int) -> int | None:
    """Deletes the entries of a team among the next ones of a day. Returns the number of the last entry of the page, or
    None at the end of the day."""
    page = db.execute(_SELECT_PAGE, (day, after, DELETION_PAGE_ENTRIES)).fetchall()
    db.executemany(_DELETE_ENTRY, [(number,) for number, owner in page if owner == team])
    return page[-1][0] if len(page) == DELETION_PAGE_ENTRIES else None


def insert_correction(db: Connection, correction: Correction) -> bool:
    """Books a correction. Returns False if it was booked before."""
    if not db.execute(_INSERT_CORRECTION, (correction.id, correction.entries[0].day)).rowcount:
        return False
    insert_entries(db, correction.entries)
    add_totals(db, sum_entries(correction.entries).values())
    return True


def add_totals(db: Connection, totals: Iterable[LedgerTotal]) -> None:
    for total in totals:
        account, team = JSON_ENCODER.encode(total.account).decode(), total.account.team
        row = (total.period, account, total.key_id, team, total.amount, total.images)
        db.execute(_ADD_HOUR_TOTAL if total.is_hourly else _ADD_DAY_TOTAL, row)


def decode_total(row: tuple[str, str, str, int, int]) -> LedgerTotal:
    """Decodes a row of a period, an account, an API key, an amount and a number of images."""
    period, account, key_id, amount, images = row
    return LedgerTotal(
        period=period, account=ACCOUNT_DECODER.decode(account), key_id=key_id, amount=amount, images=images
    )


def update_budgets(db: Connection, changes: Iterable[tuple[str, str, int, int]]) -> None:
    """Adds to budgets. Each change is a window, an owner, and the amounts to add to held and spent."""
    db.executemany(_ADD_BUDGET, list(changes))


def select_balances(db: Connection, windows: Iterable[str]) -> Mapping[tuple[str, str], BudgetBalance]:
    """Reads the balances of all teams and API keys in these windows."""
    rows = db.execute(_SELECT_BALANCES, (JSON_ENCODER.encode(list(windows)).decode(),)).fetchall()
    return {(owner, window): BudgetBalance(held=held, spent=spent) for owner, window, held, spent in rows}


def sum_balance(db: Connection, owner: str, windows: Iterable[str]) -> BudgetBalance:
    """Sums the balances of one owner in these windows. Runs in a transaction."""
    rows = [db.execute(_SELECT_BALANCE, (window, owner)).fetchone() or (0, 0) for window in windows]
    return BudgetBalance(held=sum([held for held, _ in rows]), spent=sum([spent for _, spent in rows]))
