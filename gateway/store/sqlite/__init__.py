"""Jobs in a file, for one process."""

from gateway.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
