"""The SQLite store, for one process."""

from gateway.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
