"""An event loop in virtual time: when nothing is ready, the time jumps to the next timer.

A scenario of hours runs in milliseconds, and the same scenario always runs in the same order. The loop has no sockets
and no threads: `run_in_executor` and `asyncio.to_thread` call their function at once.
"""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")
# Timers due within this time of each other are due together.
CLOCK_RESOLUTION_SECONDS = 1e-6
# So many turns take a little time, as those of a real loop do. Otherwise a task that waits for a slower clock, and is
# always a little too early, would be busy without end.
TURNS_PER_TICK, TICK_SECONDS = 100, 1e-9
START_SECONDS = 1_000.0


MAX_TURNS_WITHOUT_TIME = 20_000


class Deadlock(Exception):
    """No task can continue, and no timer is set. The message lists the tasks and where they wait."""


class Livelock(Exception):
    """Tasks are busy without end, and no time passes. The message lists the tasks and where they are."""


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """The event loop. `jump_count`: how often the time jumped to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = START_SECONDS
        self._clock_resolution = CLOCK_RESOLUTION_SECONDS
        self._selector = _TimeJumper(self)
        self.jump_count = 0

    def time(self) -> float:
        return self._now

    def jump_to(self, when: float) -> None:
        self._now = max(self._now, when)
        self.jump_count += 1

    def tick(self) -> None:
        self._now += TICK_SECONDS

    def find_next_timer(self) -> float | None:
        """Returns the time of the next timer that is not cancelled."""
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
        return self._scheduled[0]._when if self._scheduled else None

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        """Calls the function at once. The result is available in the next turn, as that of a thread would be."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  the caller awaits it
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets, so there are no events."""

    def _write_to_self(self) -> None:
        """There are no other threads, so the loop need not be woken."""

    def end_all_tasks(self) -> None:
        """Cancels all tasks and waits for their ends. No timer fires any more, so nothing restarts."""
        while tasks := asyncio.all_tasks(self):
            self._scheduled.clear()
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks))

    def describe_tasks(self) -> str:
        return "\n".join(sorted(_describe_task(task) for task in asyncio.all_tasks(self))) or "no tasks"


class _TimeJumper:
    """Takes the place of the selector: instead of waiting, it moves the time."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._turns_without_time = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout == 0:
            self._turns_without_time += 1
            if self._turns_without_time % TURNS_PER_TICK == 0:
                self._loop.tick()
            if self._turns_without_time > MAX_TURNS_WITHOUT_TIME:
                self._turns_without_time = 0
                raise Livelock(f"tasks are busy without end:\n{self._loop.describe_tasks()}")
            return []
        self._turns_without_time = 0
        when = self._loop.find_next_timer()
        if when is None:
            raise Deadlock(f"nothing is ready and no timer is set:\n{self._loop.describe_tasks()}")
        self._loop.jump_to(when)
        return []


def _describe_task(task: "asyncio.Task[Any]") -> str:
    frames = task.get_stack(limit=1)
    place = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "not started"
    return f"{task.get_coro().__qualname__} waits at {place}"


def run_in_virtual_time(scenario: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Runs the scenario in a loop of its own. Tasks that it leaves behind are cancelled."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(scenario)


def in_virtual_time(test: Callable[ParamsT, Coroutine[Any, Any, None]]) -> Callable[ParamsT, None]:
    """Makes an asynchronous test an ordinary one that runs in virtual time."""

    @wraps(test)
    def run_test(*args: ParamsT.args, **kwargs: ParamsT.kwargs) -> None:
        run_in_virtual_time(test(*args, **kwargs))

    return run_test
