"""Supervises the long-running tasks of a process: a task that fails is reported, counted and restarted.

No code awaits such a task, so its end would otherwise go unnoticed. The supervisor is not a task itself, since a task
could end, too: the event loop calls it when a task is done.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from msgspec import Struct

from gateway.events import ComponentError, EventSink, TaskRecovered, describe_exception, make_error_event
from gateway.timeouts_and_intervals import TaskTiming

TaskFunction = Callable[["SupervisedTask"], Coroutine[Any, Any, None]]


class TaskFailure(Struct, frozen=True):
    """Why a task is down: its last error, how often in a row it has failed, and when it first did."""

    error: str
    count: int
    first_failed_at: float


class TaskSupervisor:
    """Runs supervised tasks; one per process. `emit` receives each failure and recovery."""

    def __init__(
        self,
        emit: EventSink = lambda event: None,
        clock: Callable[[], float] = time.monotonic,
        timing: TaskTiming = TaskTiming(),
    ) -> None:
        self.timing = timing
        self.emit = emit
        self.clock = clock
        self._tasks: set[SupervisedTask] = set()

    def run(self, name: str, function: TaskFunction, max_backoff: float | None = None) -> "SupervisedTask":
        """Runs `function`, and restarts it after each failure, until it returns or is stopped.

        `function` receives its task. It calls `record_success` of the task once it works.
        """
        task = SupervisedTask(self, name, function, max_backoff or self.timing.max_backoff_seconds)
        self._tasks.add(task)
        task.start()
        return task

    def run_every(self, name: str, interval: float, function: Callable[[], Awaitable[None]]) -> "SupervisedTask":
        """Runs `function` every `interval` seconds. After a failure it runs again no later than that."""

        async def repeat(task: SupervisedTask) -> None:
            while True:
                if task.failure is None:
                    await asyncio.sleep(interval)
                await function()
                task.record_success()

        return self.run(name, repeat, max_backoff=interval)

    def discard(self, task: "SupervisedTask") -> None:
        self._tasks.discard(task)

    @property
    def task_names(self) -> list[str]:
        return sorted(task.name for task in self._tasks)

    def get_failures(self) -> dict[str, TaskFailure]:
        return {task.name: task.failure for task in self._tasks if task.failure}


class SupervisedTask:
    """One task and its restarts. Every end except a return is a failure, even a cancellation, unless `stop`
    caused it."""

    def __init__(self, supervisor: TaskSupervisor, name: str, function: TaskFunction, max_backoff: float) -> None:
        self.name = name
        self.failure: TaskFailure | None = None
        self._supervisor = supervisor
        self._function = function
        self._max_backoff = max_backoff
        self._task: asyncio.Task[None] | None = None
        self._restart_timer: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._function(self), name=self.name)
        self._task.add_done_callback(self._on_done)

    def record_success(self) -> None:
        """Ends a failure: the task is not down any more, and its next failure counts as the first."""
        if self.failure is None:
            return
        down_seconds = round(self._supervisor.clock() - self.failure.first_failed_at, 1)
        recovered = TaskRecovered(task=self.name, failures=self.failure.count, seconds=down_seconds)
        self.failure = None
        # Not emitted directly: an event sink that fails must not end the task.
        asyncio.get_running_loop().call_soon(self._supervisor.emit, recovered)

    async def stop(self) -> None:
        """Cancels the task and returns when it has ended. It may be called again."""
        self._is_stopped = True
        self._supervisor.discard(self)
        if self._restart_timer:
            self._restart_timer.cancel()
        while self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=self._supervisor.timing.stop_interval_seconds)

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if self._is_stopped or error is None:
            self._supervisor.discard(self)
            return
        previous = self.failure or TaskFailure("", 0, self._supervisor.clock())
        self.failure = TaskFailure(_describe_publicly(error), previous.count + 1, previous.first_failed_at)
        # The exponent is bounded, or the number would grow without end.
        backoff = min(self._supervisor.timing.min_backoff_seconds * 2 ** min(previous.count, 10), self._max_backoff)
        self._restart_timer = asyncio.get_running_loop().call_later(backoff, self.start)
        self._supervisor.emit(make_error_event(error, task=self.name))


def _describe_publicly(error: BaseException) -> str:
    """Describes the error for `/readyz`, which needs no key."""
    return str(error) if isinstance(error, ComponentError) and error.is_public else describe_exception(error)
