"""Two threads beside the event loop: one writes, everything that waits in one transaction; the other one reads."""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from gateway.store.base import StoreFull, StoreOutcomeUnknown, StoreUnavailable
from gateway.task_supervisor import SupervisedTask, TaskSupervisor

T = TypeVar("T")

# A thread that has run for so long does not crash at once, as the one before it did.
HEALTHY_AFTER_SECONDS = 1.0
# What keeps SQLite from doing its work just now. Any other of its errors is a mistake of ours.
_UNAVAILABLE_CODES = frozenset(
    (
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
        *(sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_PERM),
    )
)


def translate_error(error: Exception) -> Exception:
    """What a caller is told of an error."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull("there is no room left on the disk of the database")
    if code in _UNAVAILABLE_CODES:
        return StoreUnavailable(f"the database cannot be used just now: {error}")
    if isinstance(error, StopIteration):
        # No future takes one.
        return RuntimeError(f"ended by {error!r}")
    return error


class _DatabaseCall(Generic[T]):
    """Something to be done by a thread, and who waits for it. `on_success` is done in the loop if it succeeded."""

    __slots__ = ("error", "function", "future", "on_success", "result")

    def __init__(
        self,
        function: Callable[[sqlite3.Connection], T],
        future: "asyncio.Future[T]",
        on_success: Callable[[T], None] | None,
    ) -> None:
        self.function, self.future, self.on_success = function, future, on_success
        self.result: T
        self.error: Exception | None = None

    def call_on_success(self) -> None:
        """Whoever waited may have been cancelled; it is done all the same, and the others are told."""
        if self.error is None and self.on_success:
            self.on_success(self.result)

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class _DatabaseThread(ABC):
    """A thread with a connection of its own, and a queue. After a crash the callers get an error, and another starts.

    `connect` is called here, so that an error is the caller's, and by each thread that takes the place of a dead one.
    """

    max_batch: int

    def __init__(self, connect: Callable[[], sqlite3.Connection], name: str, supervisor: TaskSupervisor) -> None:
        self._connect = connect
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_DatabaseCall[Any] | None] = SimpleQueue()
        self._current_batch: list[_DatabaseCall[Any]] = []
        self._is_stopping = False
        self._thread_end: asyncio.Future[None]
        self._thread = self._start_thread(connect())
        self._supervised_task = supervisor.run(f"store.{name}", self._supervise_thread)

    def _start_thread(self, connection: sqlite3.Connection | None) -> Thread:
        self._thread_end = self._loop.create_future()
        thread = Thread(target=self._run_thread, args=(connection,), name=f"sqlite-{self._name}", daemon=True)
        thread.start()
        return thread

    async def _supervise_thread(self, task: SupervisedTask) -> None:
        """Raises the error that the thread crashes with; called again, it starts another one."""
        if self._thread_end.done():
            self._thread = self._start_thread(None)
        healthy_timer = self._loop.call_later(HEALTHY_AFTER_SECONDS, task.record_success)
        try:
            await asyncio.shield(self._thread_end)
        finally:
            healthy_timer.cancel()

    async def run(
        self, function: Callable[[sqlite3.Connection], T], on_success: Callable[[T], None] | None = None
    ) -> T:
        """Once this has been called it is done, whether or not anybody goes on waiting for it."""
        if self._is_stopping:
            raise StoreUnavailable("the store is closed")
        if self._thread_end.done():
            raise _thread_crashed_error()
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_DatabaseCall(function, future, on_success))
        return await future

    async def stop(self) -> None:
        """Does what waits, and closes the connection."""
        if not self._is_stopping:
            self._is_stopping = True
            self._queue.put(None)
        await asyncio.wait([self._thread_end])
        await self._supervised_task.stop()
        self._thread.join()

    def _run_thread(self, connection: sqlite3.Connection | None) -> None:
        try:
            connection = self._connection = connection or self._connect()
            while batch := self._take_batch():
                self._current_batch = batch
                self._run_batch(batch)
                self._post_to_loop(_resolve_calls, batch)
        except BaseException as error:  # noqa: BLE001  whatever the error, no caller may wait without end
            self._post_to_loop(self._on_crash, error)
        else:
            self._post_to_loop(self._thread_end.set_result, None)
        finally:
            if connection is not None:
                connection.close()

    def _on_crash(self, error: BaseException) -> None:
        """In the loop, like all that is put into the queue: nothing can be put there between this and the answer."""
        unanswered = [call for call in self._current_batch if not call.future.done()]
        with suppress(Empty):
            while True:
                if call := self._queue.get_nowait():
                    unanswered.append(call)
        for call in unanswered:
            call.error = _thread_crashed_error()
        _resolve_calls(unanswered)
        self._thread_end.set_exception(error if isinstance(error, Exception) else RuntimeError(f"ended by {error!r}"))
        # Looked at here, so that it is not reported a second time where a closed store has no supervisor any more.
        self._thread_end.exception()

    def _take_batch(self) -> list[_DatabaseCall[Any]]:
        """Waits for something to do; everything that is there by then. Nothing once it is to stop."""
        batch: list[_DatabaseCall[Any]] = []
        with suppress(Empty):
            while len(batch) < self.max_batch:
                call = self._queue.get(block=not batch)
                if call is None:
                    if batch:
                        # To be found again when these are done; nothing can have come after it.
                        self._queue.put(None)
                    break
                batch.append(call)
        return batch

    @abstractmethod
    def _run_batch(self, batch: list[_DatabaseCall[Any]]) -> None:
        """Does all of it, and sees to it that everybody who waits is answered."""

    def _post_to_loop(self, callback: Callable[..., None], argument: object) -> None:
        # A loop that was closed in the meantime has nobody left who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, argument)


def _thread_crashed_error() -> StoreUnavailable:
    return StoreUnavailable("the thread of the database has crashed and is being started again")


def _resolve_calls(calls: list[_DatabaseCall[Any]]) -> None:
    """Resolves the callers' results first, so that an error in a notification delays no caller."""
    for call in calls:
        call.resolve()
    for call in calls:
        call.call_on_success()


class ReaderThread(_DatabaseThread):
    """Sees everything that was committed before it was asked."""

    max_batch = 16

    def _run_batch(self, batch: list[_DatabaseCall[Any]]) -> None:
        for call in batch:
            try:
                call.result = call.function(self._connection)
            except Exception as error:  # noqa: BLE001  whatever it is, it is the caller's, and the thread lives on
                call.error = translate_error(error)
                _roll_back(self._connection)


class WriterThread(_DatabaseThread):
    """Group commit: everything that waits shares one transaction, and one wait for the disk.

    What is to be done may be tried twice, so it changes nothing but the database.
    """

    max_batch = 256

    def _run_batch(self, batch: list[_DatabaseCall[Any]]) -> None:
        try:
            if not self._run_together(batch):
                self._run_separately(batch)
        except Exception as error:  # noqa: BLE001  nothing of the group was kept; the thread lives on
            _roll_back(self._connection)
            failure = translate_error(error)
            if not isinstance(failure, StoreFull):
                # What the disk did not confirm may be there after the next start.
                failure = StoreOutcomeUnknown(f"the database did not confirm it: {error}")
            for call in batch:
                call.error = call.error or failure

    def _run_together(self, batch: list[_DatabaseCall[Any]]) -> bool:
        """Without savepoints, which nearly never have anything to save. False, and nothing is done, if one failed."""
        self._connection.execute("BEGIN IMMEDIATE")
        for call in batch:
            try:
                call.result = call.function(self._connection)
            except Exception:  # noqa: BLE001  it is done once more, and fails again, for itself
                _roll_back(self._connection)
                return False
        self._connection.execute("COMMIT")
        return True

    def _run_separately(self, batch: list[_DatabaseCall[Any]]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for call in batch:
            self._run_in_savepoint(call)
        self._connection.execute("COMMIT")

    def _run_in_savepoint(self, call: _DatabaseCall[Any]) -> None:
        """An error undoes this one only, unless SQLite has undone everything: then it is everybody's."""
        execute = self._connection.execute
        execute("SAVEPOINT one")
        try:
            call.result = call.function(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise
            call.error = translate_error(error)
            execute("ROLLBACK TO one")
        execute("RELEASE one")


def _roll_back(connection: sqlite3.Connection) -> None:
    # What cannot be rolled back now is rolled back by the next group's failing to begin.
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
