"""Writes due times of jobs, for commits and leases. Each function is one step of the writer's transaction."""

from sqlite3 import Connection

_UPSERT_DUE = """INSERT INTO due (job_id, due_at) VALUES (?, ?)
ON CONFLICT (job_id) DO UPDATE SET due_at = excluded.due_at"""
_DELETE_DUE = "DELETE FROM due WHERE job_id = ?"


def set_due(db: Connection, job_id: str, due_at: float) -> None:
    db.execute(_UPSERT_DUE, (job_id, due_at))


def delete_due(db: Connection, job_id: str) -> None:
    db.execute(_DELETE_DUE, (job_id,))
