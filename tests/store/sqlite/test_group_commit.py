"""Many callers, one transaction; and each of them is answered for itself."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.jobs.commit import Commit
from gateway.store.base import Applied, StoreFull, StoreUnavailable, StoreUnsure
from gateway.store.sqlite import SqliteStore
from gateway.store.sqlite.threads import Reader, Writer
from gateway.supervision import Supervisor
from tests.store import orders
from tests.store.sqlite.helping import told

Statements = list[str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "numbers.db"


def written(path: Path, story: Callable[[Writer, Statements], Coroutine[Any, Any, None]]) -> list[int]:
    """What a story with a writer of its own leaves behind."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE children (parent INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("PRAGMA foreign_keys=ON")
    statements: Statements = []
    connection.set_trace_callback(statements.append)

    async def whole() -> None:
        writer = Writer(lambda: connection, "writer", Supervisor())
        try:
            await story(writer, statements)
        finally:
            await writer.stop()

    asyncio.run(whole())
    after = sqlite3.connect(path)
    numbers = [number for (number,) in after.execute("SELECT number FROM numbers ORDER BY number")]
    after.close()
    return numbers


def put(number: int) -> Callable[[sqlite3.Connection], int]:
    def run(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO numbers VALUES (?)", (number,))
        return number

    return run


class Held:
    """Keeps the writer busy until everything that is to be one group waits."""

    def __init__(self, writer: Writer) -> None:
        self._busy, self._go = threading.Event(), threading.Event()
        self._first = asyncio.create_task(writer.do(self._hold))

    def _hold(self, db: sqlite3.Connection) -> None:
        self._busy.set()
        self._go.wait(10)

    async def is_busy(self) -> None:
        await asyncio.to_thread(self._busy.wait, 10)

    async def let_go(self) -> None:
        await asyncio.sleep(0)
        self._go.set()
        await self._first


async def as_one_group(writer: Writer, *runs: Callable[[sqlite3.Connection], Any]) -> list[Any]:
    held = Held(writer)
    await held.is_busy()
    tasks = [asyncio.create_task(writer.do(run)) for run in runs]
    await held.let_go()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_all_that_wait_share_one_transaction(path: Path) -> None:
    async def story(writer: Writer, statements: Statements) -> None:
        assert await as_one_group(writer, *(put(number) for number in range(200))) == list(range(200))
        assert statements.count("COMMIT") == 2

    assert written(path, story) == list(range(200))


def test_a_group_has_an_end(path: Path) -> None:
    async def story(writer: Writer, statements: Statements) -> None:
        await as_one_group(writer, *(put(number) for number in range(Writer.most + 1)))
        assert statements.count("COMMIT") == 3

    assert len(written(path, story)) == Writer.most + 1


@pytest.mark.parametrize("error", [KeyError("slip"), StopIteration(), sqlite3.IntegrityError("slip")])
def test_what_fails_takes_nobody_with_it(path: Path, error: Exception) -> None:
    def half(db: sqlite3.Connection) -> None:
        put(99)(db)
        raise error

    async def story(writer: Writer, statements: Statements) -> None:
        answers = await as_one_group(writer, put(1), half, put(2), put(2), put(3))
        assert (answers[0], answers[2], answers[4]) == (1, 2, 3)
        assert answers[1] is error or isinstance(answers[1], RuntimeError)
        assert isinstance(answers[3], sqlite3.IntegrityError)
        assert await writer.do(put(4)) == 4

    assert written(path, story) == [1, 2, 3, 4]


def test_what_sqlite_undoes_as_a_whole_is_everybody_s_trouble(path: Path) -> None:
    def undone(db: sqlite3.Connection) -> None:
        db.execute("ROLLBACK")
        raise full()

    async def story(writer: Writer, statements: Statements) -> None:
        answers = await as_one_group(writer, put(1), undone, put(2))
        assert [type(answer) for answer in answers] == [StoreFull] * 3
        assert await writer.do(put(3)) == 3

    assert written(path, story) == [3]


def full() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_an_error_of_the_commit_itself_is_everybody_s_and_the_writer_lives_on(path: Path) -> None:
    """A deferred constraint is checked no sooner than that; and nothing says beforehand that it will be broken."""

    def broken(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO children VALUES (99)")

    async def story(writer: Writer, statements: Statements) -> None:
        assert await as_one_group(writer, put(1), put(2)) == [1, 2]
        answers = await as_one_group(writer, put(3), broken, put(4))
        assert [type(answer) for answer in answers] == [StoreUnsure] * 3
        assert await writer.do(put(5)) == 5

    assert written(path, story) == [1, 2, 5]


def test_whoever_is_cancelled_is_served_all_the_same(path: Path) -> None:
    async def story(writer: Writer, statements: Statements) -> None:
        held = Held(writer)
        await held.is_busy()
        waiting = asyncio.create_task(writer.do(put(1)))
        await asyncio.sleep(0)
        waiting.cancel()
        await held.let_go()
        assert await writer.do(put(2)) == 2
        assert waiting.cancelled()

    assert written(path, story) == [1, 2]


def test_a_reader_outlives_what_goes_wrong_in_it(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def failing(db: sqlite3.Connection) -> None:
        db.execute("BEGIN")
        raise KeyError("slip")

    async def story() -> None:
        reader = Reader(lambda: connection, "reader", Supervisor())
        with pytest.raises(KeyError):
            await reader.do(failing)
        assert await reader.do(lambda db: db.in_transaction) is False
        await reader.stop()
        with pytest.raises(StoreUnavailable):
            await reader.do(lambda db: None)

    asyncio.run(story())


def test_a_loop_that_is_gone_does_not_keep_the_writer_from_ending(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    go = threading.Event()

    async def story() -> Writer:
        writer = Writer(lambda: connection, "writer", Supervisor())
        waiting = asyncio.create_task(writer.do(lambda db: go.wait(10)))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(writer.stop())
        await asyncio.sleep(0)
        waiting.cancel()
        stopping.cancel()
        return writer

    writer = asyncio.run(story())
    go.set()
    writer._thread.join(5)
    assert not writer._thread.is_alive()


def test_commits_of_many_jobs_share_transactions_and_watchers_hear_of_cancelled_ones(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: Statements = []
    connect = sqlite3.connect

    def traced(name: str, **options: bool) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(name, **options)  # type: ignore[call-overload]
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)

    async def story(store: SqliteStore) -> None:
        await store.claim()
        before = statements.count("COMMIT")
        commits = [orders.acceptance(orders.NOON) for _ in range(200)]
        assert set(await orders.together(store.commit(commit) for commit in commits)) == {Applied()}
        assert statements.count("COMMIT") - before < 50
        await _heard_of(store, orders.acceptance(orders.NOON))

    told(path, story)


async def _heard_of(store: SqliteStore, commit: Commit) -> None:
    with store.watch(commit.job.id) as watch:
        sent = asyncio.create_task(store.commit(commit))
        await asyncio.sleep(0)
        sent.cancel()
        assert await watch.changed(5.0)
        assert await store.load(commit.job.id) == commit.job
