"""Lifetime totals, balances and backlog of the store in SQLite."""

import contextlib
from collections.abc import Callable, Mapping
from sqlite3 import Connection

from gateway.jobs.budgets import is_team
from gateway.store.base import StoreFull
from gateway.store.ledger_totals import BudgetBalance
from gateway.store.sqlite.api_key_rows import RunOnDatabase
from gateway.store.sqlite.ledger_rows import ACCOUNT_DECODER, select_balances
from gateway.store.statistics import Backlog, LifetimeTotal, OpenState

_SELECT_UNCOUNTED_DAY = "SELECT min(day) FROM totals WHERE is_uncounted = 1"
# The last value of an account is the API key of a balance.
_ADD_LIFETIME_TOTALS = """INSERT INTO lifetime_totals (account, charged, charged_images, corrected, corrected_images)
SELECT json_set(account, '$[5]', ''), max(0, amount - counted_amount), max(0, images - counted_images),
max(0, counted_amount - amount), max(0, counted_images - images) FROM totals
WHERE is_uncounted = 1 AND day = ?
ON CONFLICT (account) DO UPDATE SET charged = charged + excluded.charged,
charged_images = charged_images + excluded.charged_images, corrected = corrected + excluded.corrected,
corrected_images = corrected_images + excluded.corrected_images"""
_MARK_COUNTED = """UPDATE totals SET counted_amount = amount, counted_images = images, is_uncounted = 0
WHERE is_uncounted = 1 AND day = ?"""
_SELECT_LIFETIME_TOTALS = "SELECT account, charged, charged_images, corrected, corrected_images FROM lifetime_totals"
_SELECT_OPEN_JOBS = "SELECT count(*), min(created_at) FROM jobs WHERE settled_at IS NULL AND open_state = ?"
_SELECT_FIRST_DUE = "SELECT min(due_at) FROM due"


class SqliteStatistics:
    """Implements StoreStatistics on the threads of the store."""

    def __init__(
        self, run_read: RunOnDatabase, run_write: RunOnDatabase, clock: Callable[[], float], replica_id: str
    ) -> None:
        self._run_read, self._run_write, self._clock, self._replica_id = run_read, run_write, clock, replica_id

    async def update_lifetime_totals(self) -> tuple[LifetimeTotal, ...]:
        """Counts each day in a transaction of its own, so that commits need not wait for all of them. While the disk
        is full, the totals stay as they are: no money can be booked then."""
        with contextlib.suppress(StoreFull):
            while await self._run_write(count_one_day):
                continue
        totals: tuple[LifetimeTotal, ...] = await self._run_read(_select_lifetime_totals)
        return totals

    async def list_balances(self, *windows: str) -> Mapping[tuple[str, str], BudgetBalance]:
        balances: Mapping[tuple[str, str], BudgetBalance] = await self._run_read(
            lambda db: {key: value for key, value in select_balances(db, windows).items() if is_team(key[0])}
        )
        return balances

    async def read_backlog(self) -> Backlog:
        backlog: Backlog = await self._run_read(lambda db: _select_backlog(db, self._clock()))
        return backlog

    async def exchange_heartbeats(self) -> Mapping[str, float]:
        """No other process uses the database."""
        return {self._replica_id: 0.0}


def count_one_day(db: Connection) -> bool:
    """Adds what the totals of one day gained. Returns whether there may be another day."""
    (day,) = db.execute(_SELECT_UNCOUNTED_DAY).fetchone()
    if day is not None:
        db.execute(_ADD_LIFETIME_TOTALS, (day,))
        db.execute(_MARK_COUNTED, (day,))
    return day is not None


def _select_lifetime_totals(db: Connection) -> tuple[LifetimeTotal, ...]:
    return tuple(
        LifetimeTotal(
            account=ACCOUNT_DECODER.decode(account),
            charged=charged,
            charged_images=charged_images,
            corrected=corrected,
            corrected_images=corrected_images,
        )
        for account, charged, charged_images, corrected, corrected_images in db.execute(
            _SELECT_LIFETIME_TOTALS
        ).fetchall()
    )


def _select_backlog(db: Connection, now: float) -> Backlog:
    rows: dict[OpenState, tuple[int, float | None]] = {
        state: db.execute(_SELECT_OPEN_JOBS, (state,)).fetchone() for state in OpenState
    }
    (first_due_at,) = db.execute(_SELECT_FIRST_DUE).fetchone()
    return Backlog(
        jobs={state: count for state, (count, _) in rows.items()},
        oldest_seconds=max(
            (now - created_at for _, created_at in rows.values() if created_at is not None), default=0.0
        ),
        due_lag_seconds=0.0 if first_due_at is None else max(0.0, now - first_due_at),
    )
