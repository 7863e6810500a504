"""Two threads beside the event loop: one writes, everything that waits in one transaction; the other one reads."""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from gateway.store.base import StoreFull, StoreUnavailable, StoreUnsure
from gateway.supervision import SupervisedTask, Supervisor

T = TypeVar("T")

# A thread that has run for so long does not crash at once, as the one before it did.
WELL_SECONDS = 1.0
# What keeps SQLite from doing its work just now. Any other of its errors is a mistake of ours.
_TROUBLE = frozenset(
    (
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM),
    )
)


def in_our_words(error: Exception) -> Exception:
    """What a caller is told of an error."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull("there is no room left on the disk of the database")
    if code in _TROUBLE:
        return StoreUnavailable(f"the database cannot be used just now: {error}")
    if isinstance(error, StopIteration):
        # No future takes one.
        return RuntimeError(f"ended by {error!r}")
    return error


class _Work(Generic[T]):
    """Something to be done by a thread, and who waits for it. `then` is done in the loop if it succeeded."""

    __slots__ = ("error", "future", "result", "run", "then")

    def __init__(
        self, run: Callable[[sqlite3.Connection], T], future: "asyncio.Future[T]", then: Callable[[T], None] | None
    ) -> None:
        self.run, self.future, self.then = run, future, then
        self.result: T
        self.error: Exception | None = None

    def tell(self) -> None:
        """Whoever waited may have been cancelled; it is done all the same, and the others are told."""
        if self.error is None and self.then:
            self.then(self.result)

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _Worker(ABC):
    """A thread with a connection of its own, and a queue. After a crash the callers get an error, and another starts.

    `connect` is called here, so that an error is the caller's, and by each thread that takes the place of a dead one.
    """

    most: int

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str, supervisor: Supervisor) -> None:
        self._connect = connect
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Work[Any] | None] = SimpleQueue()
        self._busy_with: list[_Work[Any]] = []
        self._stopping = False
        self._ended: asyncio.Future[None]
        self._thread = self._started(connect())
        self._supervised = supervisor.run(f"store.{name}", self._watch)

    def _started(self, connection: sqlite3.Connection | None) -> Thread:
        self._ended = self._loop.create_future()
        thread = Thread(target=self._serve, args=(connection,), name=f"sqlite-{self._name}", daemon=True)
        thread.start()
        return thread

    async def _watch(self, task: SupervisedTask) -> None:
        """Raises the error that the thread crashes with; called again, it starts another one."""
        if self._ended.done():
            self._thread = self._started(None)
        task_is_well = self._loop.call_later(WELL_SECONDS, task.succeeded)
        try:
            await asyncio.shield(self._ended)
        finally:
            task_is_well.cancel()

    async def do(self, run: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None) -> T:
        """Once this has been called it is done, whether or not anybody goes on waiting for it."""
        if self._stopping:
            raise StoreUnavailable("the store is closed")
        if self._ended.done():
            raise _crashed_error()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Work(run, future, then))
        return await future

    async def stop(self) -> None:
        """Does what waits, and closes the connection."""
        if not self._stopping:
            self._stopping = True
            self._queue.put(None)
        await asyncio.wait([self._ended])
        await self._supervised.stop()
        self._thread.join()

    def _serve(self, connection: sqlite3.Connection | None) -> None:
        try:
            connection = self._connection = connection or self._connect()
            while group := self._waiting():
                self._busy_with = group
                self._perform(group)
                self._post(_resolve, group)
        except BaseException as error:  # noqa: BLE001  whatever the error, no caller may wait without end
            self._post(self._on_crash, error)
        else:
            self._post(self._ended.set_result, None)
        finally:
            if connection is not None:
                connection.close()

    def _on_crash(self, error: BaseException) -> None:
        """In the loop, like all that is put into the queue: nothing can be put there between this and the answer."""
        waiting = [work for work in self._busy_with if not work.future.done()]
        with suppress(Empty):
            while True:
                if work := self._queue.get_nowait():
                    waiting.append(work)
        for work in waiting:
            work.error = _crashed_error()
        _resolve(waiting)
        self._ended.set_exception(error if isinstance(error, Exception) else RuntimeError(f"ended by {error!r}"))
        # Looked at here, so that it is not reported a second time where a closed store has no supervisor any more.
        self._ended.exception()

    def _waiting(self) -> list[_Work[Any]]:
        """Waits for something to do; everything that is there by then. Nothing once it is to stop."""
        group: list[_Work[Any]] = []
        with suppress(Empty):
            while len(group) < self.most:
                work = self._queue.get(block=not group)
                if work is None:
                    if group:
                        # To be found again when these are done; nothing can have come after it.
                        self._queue.put(None)
                    break
                group.append(work)
        return group

    @abstractmethod
    def _perform(self, group: list[_Work[Any]]) -> None:
        """Does all of it, and sees to it that everybody who waits is answered."""

    def _post(self, call: Callable[..., None], what: object) -> None:
        # A loop that was closed in the meantime has nobody left who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, what)


def _crashed_error() -> StoreUnavailable:
    return StoreUnavailable("the thread of the database has crashed and is being started again")


def _resolve(group: list[_Work[Any]]) -> None:
    """Resolves the callers' results first, so that an error in a notification delays no caller."""
    for work in group:
        work.resolve()
    for work in group:
        work.tell()


class Reader(_Worker):
    """Sees everything that was committed before it was asked."""

    most = 16

    def _perform(self, group: list[_Work[Any]]) -> None:
        for work in group:
            try:
                work.result = work.run(self._connection)
            except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's, and the thread lives on
                work.error = in_our_words(error)
                _undo(self._connection)


class Writer(_Worker):
    """Group commit: everything that waits shares one transaction, and one wait for the disk.

    What is to be done may be tried twice, so it changes nothing but the database.
    """

    most = 256

    def _perform(self, group: list[_Work[Any]]) -> None:
        try:
            if not self._all_at_once(group):
                self._each_for_itself(group)
        except Exception as error:  # noqa: BLE001  nothing of the group was kept; the thread lives on
            _undo(self._connection)
            failure = in_our_words(error)
            if not isinstance(failure, StoreFull):
                # What the disk did not confirm may be there after the next start.
                failure = StoreUnsure(f"the database did not confirm it: {error}")
            for work in group:
                work.error = work.error or failure

    def _all_at_once(self, group: list[_Work[Any]]) -> bool:
        """Without savepoints, which nearly never have anything to save. False, and nothing is done, if one failed."""
        self._connection.execute("BEGIN IMMEDIATE")
        for work in group:
            try:
                work.result = work.run(self._connection)
            except Exception:  # noqa: BLE001  it is done once more, and fails again, for itself
                _undo(self._connection)
                return False
        self._connection.execute("COMMIT")
        return True

    def _each_for_itself(self, group: list[_Work[Any]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for work in group:
            self._guarded(work)
        self._connection.execute("COMMIT")

    def _guarded(self, work: _Work[Any]) -> None:
        """An error undoes this one only, unless SQLite has undone everything: then it is everybody's."""
        execute = self._connection.execute
        execute("SAVEPOINT one")
        try:
            work.result = work.run(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise
            work.error = in_our_words(error)
            execute("ROLLBACK TO one")
        execute("RELEASE one")


def _undo(connection: sqlite3.Connection) -> None:
    # What cannot be rolled back now is rolled back by the next group's failing to begin.
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
