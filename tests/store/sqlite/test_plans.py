"""What a store is asked all day long looks nothing up by walking through a table."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from gateway.store.sqlite import SqliteStore
from tests.store import orders
from tests.store.sqlite.helping import TEAM, told

WALKS = re.compile(r"SCAN (?!json_each|lease|signals)|TEMP B-TREE|\(settled=")


def test_every_statement_of_a_working_day_finds_what_it_needs_by_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, statements, connect = tmp_path / "jobs.db", set[str](), sqlite3.connect

    def traced(name: str, **options: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(name, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(statements.add)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    told(path, a_working_day, clock=orders.Clock())
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as connection:
        assert {plan for statement in statements for plan in walks(connection, statement)} == set()


async def a_working_day(store: SqliteStore) -> None:
    limited = orders.acceptance(orders.NOON, webhook=True, day=10**9, month=10**9, documents={"request": b"{}"})
    for key in (orders.key(), orders.soft(attach=True)):
        await store.commit(orders.acceptance(orders.NOON, idempotency=key))
        assert await store.recall(TEAM, key)
    commit = limited
    await store.commit(commit)
    await store.beat({commit.job.id: 1})
    for happening in (orders.opened(commit.job), orders.ticket(), orders.delivered(commit.job)):
        commit = orders.changed(commit.job, happening, orders.NOON)
        await store.commit(commit)
    other = orders.acceptance(orders.NOON)
    await store.commit(other)
    assert await store.snooze(other.job.id, 1, 0.0)
    assert await store.claim()
    (outgoing,) = await store.claim_deliveries()
    await store.postpone(outgoing.delivery.id, outgoing.delivery.job, 1.0)
    await store.delivered(outgoing.delivery.id, outgoing.delivery.job)
    page = await store.list(TEAM, 1)
    await store.list(TEAM, 1, page.more)
    await store.documents(other.job.id, "request")
    await store.milestones(other.job.id)
    await store.budget(TEAM, orders.DAY, orders.MONTH)
    await store.ledger(orders.DAY, TEAM)
    await store.usage(orders.DAY, orders.DAY)
    await store.share("health", b"{}")
    await store.shared()


def walks(connection: sqlite3.Connection, statement: str) -> list[str]:
    if not statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")) or "sqlite_master" in statement:
        return []
    steps = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
    return [f"{step[3]}: {statement}" for step in steps if WALKS.search(step[3])]
