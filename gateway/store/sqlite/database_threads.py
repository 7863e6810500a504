"""Two threads besides the event loop: a writer, which commits all waiting calls in one transaction, and a reader."""

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from gateway.store.base import StoreFull, StoreOutcomeUnknown, StoreReadOnly, StoreUnavailable
from gateway.task_supervisor import SupervisedTask, TaskSupervisor
from gateway.timeouts_and_intervals import StoreTiming

ResultT = TypeVar("ResultT")

# Errors after which SQLite may work again later. Every other error is a bug of the gateway.
_UNAVAILABLE_CODES = frozenset(
    (
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN),
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL),
        sqlite3.SQLITE_PERM,
    )
)


def translate_error(error: Exception) -> Exception:
    """Returns the error that the caller gets."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull("The disk of the database is full. Free some space.")
    if code == sqlite3.SQLITE_READONLY:
        return StoreReadOnly("The database is read-only. Check its permissions, and how its disk is mounted.")
    if code in _UNAVAILABLE_CODES:
        return StoreUnavailable(f"The database cannot be used at the moment: {error}")
    if isinstance(error, StopIteration):
        # A future does not accept StopIteration.
        return RuntimeError(f"The call raised {error!r}.")
    return error


class _DatabaseCall(Generic[ResultT]):
    """A call for a thread, and the future of its result. `on_success` runs in the event loop after the call
    succeeded."""

    __slots__ = ("error", "function", "future", "on_success", "result")

    def __init__(
        self,
        function: Callable[[sqlite3.Connection], ResultT],
        future: "asyncio.Future[ResultT]",
        on_success: Callable[[ResultT], None] | None,
    ) -> None:
        self.function, self.future, self.on_success = function, future, on_success
        self.result: ResultT
        self.error: Exception | None = None

    def call_on_success(self) -> None:
        """Calls `on_success` if the function succeeded, even if its caller was cancelled: the change is written."""
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
    """A thread with its own connection and a queue. After a crash, pending calls fail and a new thread starts.

    `connect` is called by the constructor, so that its error reaches the caller, and by each new thread after a crash.
    """

    max_batch: int

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        name: str,
        supervisor: TaskSupervisor,
        timing: StoreTiming = StoreTiming(),
    ) -> None:
        self._timing = timing
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
        """Raises the error that crashed the thread. When called again, it starts a new thread."""
        if self._thread_end.done():
            self._thread = self._start_thread(None)
        healthy_timer = self._loop.call_later(self._timing.healthy_thread_seconds, task.record_success)
        try:
            await asyncio.shield(self._thread_end)
        finally:
            healthy_timer.cancel()

    async def run(
        self, function: Callable[[sqlite3.Connection], ResultT], on_success: Callable[[ResultT], None] | None = None
    ) -> ResultT:
        """Runs the function on the thread and returns its result. It runs even if the caller is cancelled."""
        if self._is_stopping:
            raise StoreUnavailable("The store is closed.")
        if self._thread_end.done():
            raise _thread_crashed_error()
        future: asyncio.Future[ResultT] = self._loop.create_future()
        self._queue.put(_DatabaseCall(function, future, on_success))
        return await future

    async def stop(self) -> None:
        """Finishes pending calls and closes the connection."""
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
        except BaseException as error:  # noqa: BLE001  no caller may wait without end
            self._post_to_loop(self._fail_pending_calls, error)
        else:
            self._post_to_loop(self._thread_end.set_result, None)
        finally:
            if connection is not None:
                connection.close()

    def _fail_pending_calls(self, error: BaseException) -> None:
        """Fails all pending calls. Runs in the event loop like `run`, so that no call can be queued in between."""
        pending = [call for call in self._current_batch if not call.future.done()]
        with suppress(Empty):
            while True:
                if call := self._queue.get_nowait():
                    pending.append(call)
        for call in pending:
            call.error = _thread_crashed_error()
        _resolve_calls(pending)
        self._thread_end.set_exception(
            error if isinstance(error, Exception) else RuntimeError(f"The thread raised {error!r}.")
        )
        # Retrieves the exception: otherwise asyncio reports it again if the store is closed and has no supervisor.
        self._thread_end.exception()

    def _take_batch(self) -> list[_DatabaseCall[Any]]:
        """Waits for calls and returns all that are queued. Returns an empty list if the thread must stop."""
        batch: list[_DatabaseCall[Any]] = []
        with suppress(Empty):
            while len(batch) < self.max_batch:
                call = self._queue.get(block=not batch)
                if call is None:
                    if batch:
                        # Stop after this batch. No call can be queued after the stop.
                        self._queue.put(None)
                    break
                batch.append(call)
        return batch

    @abstractmethod
    def _run_batch(self, batch: list[_DatabaseCall[Any]]) -> None:
        """Runs all calls of the batch, and sets the result or error of each."""

    def _post_to_loop(self, callback: Callable[..., None], argument: object) -> None:
        # If the event loop was closed meanwhile, no caller is waiting any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, argument)


def _thread_crashed_error() -> StoreUnavailable:
    return StoreUnavailable("The database thread crashed and is being restarted. Retry.")


def _resolve_calls(calls: list[_DatabaseCall[Any]]) -> None:
    """Resolves the callers' results first, so that an error in a notification delays no caller."""
    for call in calls:
        call.resolve()
    for call in calls:
        call.call_on_success()


class ReaderThread(_DatabaseThread):
    """The thread that reads. Each call sees everything that was committed before it."""

    max_batch = 16

    def _run_batch(self, batch: list[_DatabaseCall[Any]]) -> None:
        for call in batch:
            try:
                call.result = call.function(self._connection)
            except Exception as error:  # noqa: BLE001  the caller gets the error, and the thread continues
                call.error = translate_error(error)
                _roll_back(self._connection)


class WriterThread(_DatabaseThread):
    """The thread that writes. All waiting calls share one transaction and one disk sync (group commit).

    A function may be called twice, so it must not change anything except the database.
    """

    max_batch = 256

    def _run_batch(self, batch: list[_DatabaseCall[Any]]) -> None:
        try:
            if not self._run_together(batch):
                self._run_separately(batch)
        except Exception as error:  # noqa: BLE001  the batch was rolled back, and the thread continues
            _roll_back(self._connection)
            self._handle_failed_batch(batch, error)

    def _handle_failed_batch(self, batch: list[_DatabaseCall[Any]], error: Exception) -> None:
        failure = translate_error(error)
        if not isinstance(failure, StoreFull | StoreReadOnly):
            # Unconfirmed changes may be in the database after the next start.
            failure = StoreOutcomeUnknown(
                f"The database did not confirm the commit: {error}. It may have been written."
            )
        elif len(batch) > 1:
            self._run_alone(batch)
            return
        for call in batch:
            call.error = call.error or failure

    def _run_alone(self, batch: list[_DatabaseCall[Any]]) -> None:
        """Runs each call in its own transaction, after the disk had no room for all of them, or was read-only. Reads
        need none: they are in the batch of writes if the disk was full at the start."""
        for call in batch:
            call.error = None
            self._run_batch([call])

    def _run_together(self, batch: list[_DatabaseCall[Any]]) -> bool:
        """Runs the batch without savepoints, which are rarely needed. Returns False if a call fails."""
        self._connection.execute("BEGIN IMMEDIATE")
        for call in batch:
            try:
                call.result = call.function(self._connection)
            except Exception:  # noqa: BLE001  the call runs again separately and gets its own error
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
        """Runs one call. Its error undoes this call only, unless SQLite rolled back the whole transaction."""
        execute = self._connection.execute
        execute("SAVEPOINT call")
        try:
            call.result = call.function(self._connection)
        except Exception as error:
            if not self._connection.in_transaction:
                raise
            call.error = translate_error(error)
            execute("ROLLBACK TO call")
        execute("RELEASE call")


def _roll_back(connection: sqlite3.Connection) -> None:
    # If this fails, the next batch fails to begin and rolls back again.
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
