"""Turns a database into one of an earlier version, and lists the columns that it must have then."""

import sqlite3
from contextlib import closing
from pathlib import Path

from gateway.store.sqlite.database import MIGRATIONS

# The scripts that undo migrations, by the version of the schema that they restore.
_UNDO_SCRIPTS = {
    9: "DROP INDEX jobs_by_cleanup_at; ALTER TABLE jobs DROP COLUMN cleanup_at;",
    8: "ALTER TABLE budgets RENAME COLUMN owner TO team;",
    7: "DROP TABLE corrections;",
    6: """
ALTER TABLE documents RENAME TO later_documents; ALTER TABLE milestones RENAME TO later_milestones;
CREATE TABLE documents (
    job_id TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (job_id, name)
);
CREATE TABLE milestones (
    job_id TEXT NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (job_id, number)
) WITHOUT ROWID;
INSERT INTO documents SELECT jobs.id, name, content FROM later_documents JOIN jobs ON jobs.number = job_number;
INSERT INTO milestones SELECT jobs.id, later_milestones.number, entry
FROM later_milestones JOIN jobs ON jobs.number = job_number;
DROP TABLE later_documents; DROP TABLE later_milestones;
""",
    5: """
CREATE TABLE former_totals (
    day TEXT NOT NULL, account TEXT NOT NULL, team TEXT NOT NULL, amount INTEGER NOT NULL, images INTEGER NOT NULL,
    counted_amount INTEGER NOT NULL DEFAULT 0, counted_images INTEGER NOT NULL DEFAULT 0,
    is_uncounted INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (day, account)
) WITHOUT ROWID;
INSERT INTO former_totals SELECT day, account, team, sum(amount), sum(images), sum(counted_amount), sum(counted_images),
max(is_uncounted) FROM totals GROUP BY day, account;
DROP TABLE totals; DROP TABLE hour_totals; ALTER TABLE former_totals RENAME TO totals;
CREATE INDEX uncounted_totals ON totals (day) WHERE is_uncounted = 1;
DROP INDEX irregular_entries; ALTER TABLE ledger DROP COLUMN is_irregular;
""",
    4: """
DROP INDEX uncounted_totals; DROP TABLE lifetime_totals; DROP INDEX open_jobs_by_state;
ALTER TABLE totals DROP COLUMN counted_amount; ALTER TABLE totals DROP COLUMN counted_images;
ALTER TABLE totals DROP COLUMN is_uncounted; ALTER TABLE jobs DROP COLUMN open_state;
""",
}
_SELECT_COLUMNS = """SELECT tables.name, columns.name, columns.type FROM sqlite_master AS tables,
pragma_table_info(tables.name) AS columns WHERE tables.type = 'table' ORDER BY 1, 2"""


def undo_migrations(path: Path, schema: int) -> None:
    """Undoes all migrations after this version of the schema."""
    with closing(sqlite3.connect(path)) as database:
        for version in range(len(MIGRATIONS) - 1, schema - 1, -1):
            database.executescript(f"{_UNDO_SCRIPTS[version]} PRAGMA user_version={version};")
        assert _list_columns(database) == _list_former_columns(schema)


def _list_columns(database: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return database.execute(_SELECT_COLUMNS).fetchall()


def _list_former_columns(schema: int) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript("".join(MIGRATIONS[:schema]))
        return _list_columns(database)
