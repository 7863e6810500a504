"""Files and batches of teams in the store in SQLite."""

from collections.abc import Callable
from math import inf
from sqlite3 import Connection

from gateway.store.sqlite.api_key_rows import RunOnDatabase
from gateway.store.team_records import RecordKind, RecordPosition, TeamRecord

_INSERT = """INSERT OR IGNORE INTO team_records (id, kind, team, created_at, version, content, due_at)
VALUES (?, ?, ?, ?, ?, ?, ?)"""
_UPDATE = "UPDATE team_records SET version = ?, content = ?, due_at = ? WHERE id = ? AND version = ?"
_SELECT = "SELECT id, kind, team, created_at, version, content FROM team_records WHERE id = ?"
_DELETE = "DELETE FROM team_records WHERE id = ?"
_SELECT_PAGE = """SELECT id, kind, team, created_at, version, content FROM team_records
WHERE kind = ? AND team = ? AND (created_at, id) < (?, ?)
ORDER BY created_at DESC, id DESC LIMIT ?"""
_SELECT_OLDEST_PAGE = _SELECT_PAGE.replace("<", ">").replace("DESC", "ASC")
_SELECT_DUE = """SELECT id, kind, team, created_at, version, content FROM team_records
WHERE kind = ? AND due_at <= ? ORDER BY due_at LIMIT ?"""


class SqliteTeamRecords:
    """Implements TeamRecordStore on the threads of the store."""

    def __init__(self, run_read: RunOnDatabase, run_write: RunOnDatabase, clock: Callable[[], float]) -> None:
        self._run_read, self._run_write, self._clock = run_read, run_write, clock

    async def save(self, record: TeamRecord, due_in_seconds: float | None) -> bool:
        due_at = None if due_in_seconds is None else self._clock() + due_in_seconds
        return bool(await self._run_write(lambda db: _save(db, record, due_at)))

    async def load(self, record_id: str) -> TeamRecord | None:
        records = await self._run_read(lambda db: _select(db, _SELECT, record_id))
        return records[0] if records else None

    async def delete(self, record_id: str) -> None:
        await self._run_write(lambda db: db.execute(_DELETE, (record_id,)))

    async def list_records(
        self, kind: RecordKind, team: str, limit: int, after: RecordPosition | None = None, oldest_first: bool = False
    ) -> tuple[TeamRecord, ...]:
        sql, first = (_SELECT_OLDEST_PAGE, -inf) if oldest_first else (_SELECT_PAGE, inf)
        position = after or RecordPosition(first, "")
        arguments = (kind, team, position.created_at, position.id, limit)
        records: tuple[TeamRecord, ...] = await self._run_read(lambda db: _select(db, sql, *arguments))
        return records

    async def list_due(self, kind: RecordKind, limit: int = 100) -> tuple[TeamRecord, ...]:
        now = self._clock()
        records: tuple[TeamRecord, ...] = await self._run_read(lambda db: _select(db, _SELECT_DUE, kind, now, limit))
        return records


def _save(db: Connection, record: TeamRecord, due_at: float | None) -> bool:
    if record.version == 1:
        row = (record.id, record.kind, record.team, record.created_at, record.version, record.content, due_at)
        return db.execute(_INSERT, row).rowcount == 1
    changes = (record.version, record.content, due_at, record.id, record.version - 1)
    return db.execute(_UPDATE, changes).rowcount == 1


def _select(db: Connection, sql: str, *arguments: object) -> tuple[TeamRecord, ...]:
    return tuple(
        TeamRecord(
            id=record_id,
            kind=RecordKind(kind),
            team=team,
            created_at=created_at,
            version=version,
            content=content,
        )
        for record_id, kind, team, created_at, version, content in db.execute(sql, arguments).fetchall()
    )
