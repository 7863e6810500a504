"""Publishes and reads the signals that replicas share."""

from collections.abc import Mapping
from sqlite3 import Connection

from gateway.store.base import SIGNAL_TTL_SECONDS

_UPSERT_SIGNAL = """INSERT INTO signals (name, value, published_at) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, published_at = excluded.published_at"""
_SELECT_SIGNALS = "SELECT name, value FROM signals WHERE published_at > ?"


def publish_signal(db: Connection, name: str, value: bytes, now: float) -> None:
    db.execute(_UPSERT_SIGNAL, (name, value, now))


def read_signals(db: Connection, now: float) -> Mapping[str, bytes]:
    return dict(db.execute(_SELECT_SIGNALS, (now - SIGNAL_TTL_SECONDS,)).fetchall())
