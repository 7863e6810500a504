"""Group commit: many calls share one transaction, and each gets its own result."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs.commit import Commit
from gateway.store.base import Applied, StoreFull, StoreOutcomeUnknown, StoreReadOnly, StoreUnavailable
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.database_threads import ReaderThread, WriterThread
from gateway.task_supervisor import TaskSupervisor
from tests.store import job_factory
from tests.store.sqlite.sqlite_stores import record_connections, run_with_store

Statements = list[str]


def run_with_writer(path: Path, scenario: Callable[[WriterThread, Statements], Coroutine[Any, Any, None]]) -> list[int]:
    """Runs a scenario with its own writer thread, and returns the numbers in the database."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE children (parent INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("PRAGMA foreign_keys=ON")
    statements: Statements = []
    connection.set_trace_callback(statements.append)

    async def run_scenario() -> None:
        writer = WriterThread(lambda: connection, "writer", TaskSupervisor())
        try:
            await scenario(writer, statements)
        finally:
            await writer.stop()

    asyncio.run(run_scenario())
    reopened = sqlite3.connect(path)
    numbers = [number for (number,) in reopened.execute("SELECT number FROM numbers ORDER BY number")]
    reopened.close()
    return numbers


def make_insert(number: int) -> Callable[[sqlite3.Connection], int]:
    def insert_number(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO numbers VALUES (?)", (number,))
        return number

    return insert_number


class BlockedWriter:
    """Blocks the writer until all calls of one batch wait."""

    def __init__(self, writer: WriterThread) -> None:
        self._is_busy, self._may_continue = threading.Event(), threading.Event()
        self._blocking_call = asyncio.create_task(writer.run(self._block))

    def _block(self, db: sqlite3.Connection) -> None:
        self._is_busy.set()
        self._may_continue.wait(10)

    async def wait_until_busy(self) -> None:
        await asyncio.to_thread(self._is_busy.wait, 10)

    async def unblock(self) -> None:
        await asyncio.sleep(0)
        self._may_continue.set()
        await self._blocking_call


async def run_as_one_group(writer: WriterThread, *functions: Callable[[sqlite3.Connection], Any]) -> list[Any]:
    blocked = BlockedWriter(writer)
    await blocked.wait_until_busy()
    tasks = [asyncio.create_task(writer.run(function)) for function in functions]
    await blocked.unblock()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_waiting_calls_share_one_transaction(path: Path) -> None:
    async def scenario(writer: WriterThread, statements: Statements) -> None:
        assert await run_as_one_group(writer, *(make_insert(number) for number in range(200))) == list(range(200))
        assert statements.count("COMMIT") == 2

    assert run_with_writer(path, scenario) == list(range(200))


def test_group_size_is_limited(path: Path) -> None:
    async def scenario(writer: WriterThread, statements: Statements) -> None:
        await run_as_one_group(writer, *(make_insert(number) for number in range(WriterThread.max_batch + 1)))
        assert statements.count("COMMIT") == 3

    assert len(run_with_writer(path, scenario)) == WriterThread.max_batch + 1


@pytest.mark.parametrize("error", [KeyError("a bug"), StopIteration(), sqlite3.IntegrityError("a bug")])
def test_failing_call_does_not_fail_its_group(path: Path, error: Exception) -> None:
    def insert_and_fail(db: sqlite3.Connection) -> None:
        make_insert(99)(db)
        raise error

    async def scenario(writer: WriterThread, statements: Statements) -> None:
        results = await run_as_one_group(
            writer, make_insert(1), insert_and_fail, make_insert(2), make_insert(2), make_insert(3)
        )
        assert (results[0], results[2], results[4]) == (1, 2, 3)
        assert results[1] is error or isinstance(results[1], RuntimeError)
        assert isinstance(results[3], sqlite3.IntegrityError)
        assert await writer.run(make_insert(4)) == 4

    assert run_with_writer(path, scenario) == [1, 2, 3, 4]


def test_full_disk_fails_only_the_calls_that_need_room(path: Path) -> None:
    """SQLite rolled back the whole transaction. Each call is run again, alone."""

    def roll_back(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")
        raise make_disk_full_error()

    async def scenario(writer: WriterThread, statements: Statements) -> None:
        results = await run_as_one_group(writer, make_insert(1), roll_back, make_insert(2))
        assert (results[0], type(results[1]), results[2]) == (1, StoreFull, 2)
        assert await writer.run(make_insert(3)) == 3

    assert run_with_writer(path, scenario) == [1, 2, 3]


def test_reads_succeed_in_a_group_that_the_full_disk_refuses(path: Path) -> None:
    def fill_last_page(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO children VALUES (zeroblob(100000))")

    async def scenario(writer: WriterThread, statements: Statements) -> None:
        await writer.run(make_insert(1))
        await writer.run(lambda db: db.execute("PRAGMA max_page_count=1").fetchone())
        results = await run_as_one_group(
            writer, lambda db: db.execute("SELECT number FROM numbers").fetchone()[0], fill_last_page
        )
        assert (results[0], type(results[1])) == (1, StoreFull)

    assert run_with_writer(path, scenario) == [1]


def test_read_only_database_refuses_every_write(path: Path) -> None:
    """Nothing is written, so no outcome is unknown."""

    async def scenario(writer: WriterThread, statements: Statements) -> None:
        await writer.run(make_insert(1))
        await writer.run(lambda db: db.execute("PRAGMA query_only=ON").fetchone())
        results = await asyncio.gather(*(writer.run(make_insert(n)) for n in (2, 3)), return_exceptions=True)
        assert [type(result) for result in results] == [StoreReadOnly] * 2

    assert run_with_writer(path, scenario) == [1]


def make_disk_full_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_failed_commit_fails_the_whole_group_and_writer_continues(path: Path) -> None:
    """A deferred constraint is checked by COMMIT alone, so no call fails before it."""

    def break_constraint(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO children VALUES (99)")

    async def scenario(writer: WriterThread, statements: Statements) -> None:
        assert await run_as_one_group(writer, make_insert(1), make_insert(2)) == [1, 2]
        results = await run_as_one_group(writer, make_insert(3), break_constraint, make_insert(4))
        assert [type(result) for result in results] == [StoreOutcomeUnknown] * 3
        assert await writer.run(make_insert(5)) == 5

    assert run_with_writer(path, scenario) == [1, 2, 5]


def test_cancelled_call_is_still_executed(path: Path) -> None:
    async def scenario(writer: WriterThread, statements: Statements) -> None:
        blocked = BlockedWriter(writer)
        await blocked.wait_until_busy()
        pending = asyncio.create_task(writer.run(make_insert(1)))
        await asyncio.sleep(0)
        pending.cancel()
        await blocked.unblock()
        assert await writer.run(make_insert(2)) == 2
        assert pending.cancelled()

    assert run_with_writer(path, scenario) == [1, 2]


def test_reader_continues_after_a_failing_call(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def failing(db: sqlite3.Connection) -> None:
        db.execute("BEGIN")
        raise KeyError("a bug")

    async def scenario() -> None:
        reader = ReaderThread(lambda: connection, "reader", TaskSupervisor())
        with pytest.raises(KeyError):
            await reader.run(failing)
        assert await reader.run(lambda db: db.in_transaction) is False
        await reader.stop()
        with pytest.raises(StoreUnavailable):
            await reader.run(lambda db: None)

    asyncio.run(scenario())


def test_writer_ends_though_its_loop_is_closed(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    may_continue = threading.Event()

    async def scenario() -> WriterThread:
        writer = WriterThread(lambda: connection, "writer", TaskSupervisor())
        pending = asyncio.create_task(writer.run(lambda db: may_continue.wait(10)))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(writer.stop())
        await asyncio.sleep(0)
        pending.cancel()
        stopping.cancel()
        return writer

    writer = asyncio.run(scenario())
    may_continue.set()
    writer._thread.join(5)
    assert not writer._thread.is_alive()


def test_commits_share_transactions_and_cancelled_ones_notify_watchers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: Statements = []
    record_connections(monkeypatch, lambda _, connection: connection.set_trace_callback(statements.append))

    async def scenario(store: SqliteStore) -> None:
        await store.claim_jobs()
        count_before = statements.count("COMMIT")
        commits = [job_factory.make_create_commit(job_factory.NOON) for _ in range(200)]
        assert set(await job_factory.gather_all(store.commit(commit) for commit in commits)) == {Applied()}
        assert statements.count("COMMIT") - count_before < 50
        await _assert_watcher_is_notified(store, job_factory.make_create_commit(job_factory.NOON))

    run_with_store(path, scenario)


async def _assert_watcher_is_notified(store: SqliteStore, commit: Commit) -> None:
    with store.watch(commit.job.id) as watch:
        committing = asyncio.create_task(store.commit(commit))
        await asyncio.sleep(0)
        committing.cancel()
        assert await watch.wait_for_change(5.0)
        assert await store.load_job(commit.job.id) == commit.job
