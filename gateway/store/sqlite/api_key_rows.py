"""API keys and admin events of the store in SQLite."""

from collections.abc import Awaitable, Callable, Mapping
from sqlite3 import Connection
from typing import Any

import msgspec

from gateway.store.api_keys import (
    EMPTY_VERSION,
    AdminEventPage,
    ApiKeyChange,
    ApiKeyTable,
    decode_key_table,
    parse_event_query,
)

_SELECT_VERSION = "SELECT version FROM api_key_version"
_UPSERT_VERSION = "INSERT OR REPLACE INTO api_key_version (number, version) VALUES (1, ?)"
_SELECT_KEYS = "SELECT entry FROM api_keys"
_UPSERT_KEY = "INSERT OR REPLACE INTO api_keys (id, entry) VALUES (?, ?)"
_DELETE_KEY = "DELETE FROM api_keys WHERE id = ?"
_DELETE_USE = "DELETE FROM api_key_uses WHERE id = ?"
_UPSERT_USE = """INSERT INTO api_key_uses (id, used_at) SELECT id, ?2 FROM api_keys WHERE id = ?1
ON CONFLICT (id) DO UPDATE SET used_at = max(used_at, excluded.used_at)"""
_SELECT_USES = "SELECT id, used_at FROM api_key_uses"
_INSERT_EVENT = "INSERT OR IGNORE INTO admin_events (id, at, entry) VALUES (?, ?, ?)"
_SELECT_EVENTS = "SELECT entry FROM admin_events WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2"
DELETE_OLD_EVENTS = "DELETE FROM admin_events WHERE id IN (SELECT id FROM admin_events WHERE at < ? LIMIT ?)"

RunOnDatabase = Callable[[Callable[[Connection], Any]], Awaitable[Any]]


class SqliteApiKeys:
    """Implements ApiKeyStore on the threads of the store."""

    def __init__(self, run_read: RunOnDatabase, run_write: RunOnDatabase) -> None:
        self._run_read, self._run_write = run_read, run_write

    async def load_table(self, known_version: str | None = None) -> ApiKeyTable | None:
        table: ApiKeyTable | None = await self._run_read(lambda db: _load_table(db, known_version))
        return table

    async def change_table(self, change: ApiKeyChange) -> bool:
        return bool(await self._run_write(lambda db: _change_table(db, change)))

    async def record_uses(self, used_at: Mapping[str, float]) -> None:
        uses = list(used_at.items())
        await self._run_write(lambda db: db.executemany(_UPSERT_USE, uses))

    async def load_uses(self) -> Mapping[str, float]:
        return dict(await self._run_read(lambda db: db.execute(_SELECT_USES).fetchall()))

    async def list_events(self, limit: int = 100, cursor: str | None = None) -> AdminEventPage:
        query = parse_event_query(limit, cursor)
        parameters = (query.last_id, query.row_count)
        rows = await self._run_read(lambda db: db.execute(_SELECT_EVENTS, parameters).fetchall())
        return query.decode_page(entry for (entry,) in rows)


def _read_version(db: Connection) -> str:
    row = db.execute(_SELECT_VERSION).fetchone()
    return EMPTY_VERSION if row is None else str(row[0])


def _load_table(db: Connection, known_version: str | None) -> ApiKeyTable | None:
    if (version := _read_version(db)) == known_version:
        return None
    return decode_key_table(version, (entry for (entry,) in db.execute(_SELECT_KEYS).fetchall()))


def _change_table(db: Connection, change: ApiKeyChange) -> bool:
    if _read_version(db) != change.expected_version:
        return False
    db.execute(_UPSERT_VERSION, (change.version,))
    db.executemany(_UPSERT_KEY, [(key.id, msgspec.json.encode(key)) for key in change.keys])
    for sql in (_DELETE_KEY, _DELETE_USE):
        db.executemany(sql, [(key_id,) for key_id in change.deleted_ids])
    if (event := change.event) is not None:
        db.execute(_INSERT_EVENT, (event.id, event.at, msgspec.json.encode(event)))
    return True
