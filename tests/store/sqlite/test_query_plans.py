"""Frequent statements never scan a whole table."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store.sqlite import SqliteStore
from tests.harness.manual_clock import ManualClock
from tests.store import job_factory
from tests.store.sqlite.sqlite_stores import TEAM, record_connections, run_with_store

FULL_SCAN = re.compile(r"SCAN (?!json_each|lease|signals|lifetime_totals)|TEMP B-TREE|\(settled_at=")


def test_ordinary_statements_use_an_index(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: set[str] = set()
    record_connections(monkeypatch, lambda _, connection: connection.set_trace_callback(statements.add))
    run_with_store(path, run_ordinary_operations, clock=ManualClock(job_factory.NOON))
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as connection:
        assert {plan for statement in statements for plan in find_full_scans(connection, statement)} == set()


async def run_ordinary_operations(store: SqliteStore) -> None:
    limited = job_factory.make_create_commit(
        job_factory.NOON, has_webhook=True, day=10**9, month=10**9, documents={"request": b"{}"}
    )
    for key in (job_factory.make_client_key(), job_factory.make_body_key(retry_count=True)):
        await store.commit(job_factory.make_create_commit(job_factory.NOON, idempotency=key))
        assert await store.find_by_idempotency(TEAM, key)
    commit = limited
    await store.commit(commit)
    await store.renew_leases({commit.job.id: 1})
    for update in (
        job_factory.make_attempt_started(commit.job),
        job_factory.make_ticket_received(),
        job_factory.make_images_stored(commit.job),
    ):
        commit = job_factory.make_update_commit(commit.job, update, job_factory.NOON)
        await store.commit(commit)
    other = job_factory.make_create_commit(job_factory.NOON)
    await store.commit(other)
    assert await store.release_job(other.job.id, 1, 0.0)
    assert await store.claim_jobs()
    (claimed,) = await store.claim_deliveries()
    await store.retry_delivery(claimed.delivery.id, claimed.delivery.job, 1.0)
    await store.ack_delivery(claimed.delivery.id, claimed.delivery.job)
    page = await store.list_jobs(TEAM, 1)
    await store.list_jobs(TEAM, 1, page.next_position)
    await store.load_documents(other.job.id, "request")
    await store.list_milestones(other.job.id)
    assert await store.load_decision_record(other.job.id)
    assert (await store.list_decision_records(job_factory.DAY, TEAM, 1)).next_cursor
    await store.delete_decision_records(other.job.id)
    await store.load_balances(TEAM, job_factory.DAY, job_factory.MONTH)
    await store.list_ledger_entries(job_factory.DAY, TEAM)
    await store.list_ledger_entries(job_factory.DAY, TEAM, is_irregular=True)
    await store.list_day_totals(job_factory.DAY, job_factory.DAY)
    await store.publish_signal("health", b"{}")
    await store.read_signals()
    assert await store.statistics.update_lifetime_totals()
    await store.statistics.list_balances(job_factory.DAY, job_factory.MONTH)
    await store.statistics.read_backlog()


def find_full_scans(connection: sqlite3.Connection, statement: str) -> list[str]:
    if not statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")) or "sqlite_master" in statement:
        return []
    steps = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
    return [f"{step[3]}: {statement}" for step in steps if FULL_SCAN.search(step[3])]
