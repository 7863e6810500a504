"""A database of the version before the statistics: its money is counted once, and its open jobs are in the backlog."""

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.database import MIGRATIONS
from gateway.store.statistics import LifetimeTotal, OpenState
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.job_factory import NOON, PRICE
from tests.store.sqlite.sqlite_stores import run_with_store

FORMER_SCHEMA = 4
UNDO_MIGRATION = """
CREATE TABLE former_totals (
    day TEXT NOT NULL, account TEXT NOT NULL, team TEXT NOT NULL, amount INTEGER NOT NULL, images INTEGER NOT NULL,
    PRIMARY KEY (day, account)
) WITHOUT ROWID;
INSERT INTO former_totals SELECT day, account, team, sum(amount), sum(images) FROM totals GROUP BY day, account;
DROP INDEX irregular_entries; ALTER TABLE ledger DROP COLUMN is_irregular;
DROP TABLE totals; DROP TABLE hour_totals; ALTER TABLE former_totals RENAME TO totals;
DROP TABLE lifetime_totals; DROP INDEX open_jobs_by_state; ALTER TABLE jobs DROP COLUMN open_state;
"""
_SELECT_COLUMNS = """SELECT tables.name, columns.name, columns.type FROM sqlite_master AS tables,
pragma_table_info(tables.name) AS columns WHERE tables.type = 'table' ORDER BY 1, 2"""


def list_columns(database: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return database.execute(_SELECT_COLUMNS).fetchall()


def list_former_columns() -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript("".join(MIGRATIONS[:FORMER_SCHEMA]))
        return list_columns(database)


async def create_jobs(store: SqliteStore) -> None:
    """Creates an open job and, on two days, jobs that are settled."""
    await store.commit(job_factory.make_create_commit(NOON))
    for now in (NOON - 86_400.0, NOON):
        commit = job_factory.make_create_commit(now, n=2)
        await store.commit(commit)
        for update in (
            job_factory.make_attempt_started(commit.job),
            job_factory.make_ticket_received(),
            job_factory.make_images_stored(commit.job),
        ):
            commit = job_factory.make_update_commit(commit.job, update, now)
            await store.commit(commit)


async def expect_statistics(store: SqliteStore) -> None:
    (total,) = await store.statistics.update_lifetime_totals()
    assert total == LifetimeTotal(account=total.account, charged=4 * PRICE, charged_images=4)
    backlog = await store.statistics.read_backlog()
    assert backlog.jobs == {OpenState.QUEUED: 0, OpenState.IN_PROGRESS: 1, OpenState.ENDED: 0}


def test_money_of_an_earlier_version_is_counted_once(path: Path) -> None:
    clock = ManualClock(NOON)
    run_with_store(path, create_jobs, clock=clock)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(UNDO_MIGRATION)
        database.execute(f"PRAGMA user_version={FORMER_SCHEMA}")
        assert list_columns(database) == list_former_columns()
    for _ in range(2):
        run_with_store(path, expect_statistics, clock=clock)


def test_former_totals_are_counted_before_they_are_deleted(path: Path) -> None:
    clock = ManualClock(NOON)
    run_with_store(path, create_jobs, clock=clock)
    clock.now += 1_000 * 86_400.0

    async def delete_then_count(store: SqliteStore) -> None:
        await store.delete_expired()
        (total,) = await store.statistics.update_lifetime_totals()
        assert total.charged == 4 * PRICE

    run_with_store(path, delete_then_count, clock=clock)
