"""What the tasks of one job share: the job as it is saved, the mailbox of its owner, and the tasks themselves."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable
from typing import Any

from gateway.assets.shelf import ShelfUnavailable
from gateway.engine.hands import Hands
from gateway.engine.mailbox import Mailbox
from gateway.events import Trouble, fault_of
from gateway.jobs.job import Attempt, Job, Place
from gateway.store.base import StoreUnavailable

# Work that failed because of the store or the storage starts again after the short pause. After an unexpected error the
# pauses grow, or it would fail each second until the job's deadline.
TROUBLE_PAUSE, LONGEST_TROUBLE_PAUSE = 1.0, 60.0
PASSING = (StoreUnavailable, ShelfUnavailable)


class Desk:
    """`fence` proves that the job is ours. Only the owner changes `job`."""

    def __init__(self, hands: Hands, job: Job, fence: int) -> None:
        self.hands = hands
        self.job = job
        self.fence = fence
        self.mailbox = Mailbox()
        # Set when the owner makes progress. A saved change sets both, an answer about an open order only the first.
        self.has_got_on = asyncio.Event()
        self.has_saved = asyncio.Event()
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        # By name: how long the work rested the last time that it failed, and until when it rests now.
        self._rests: dict[Hashable, tuple[float, float]] = {}

    def becomes(self, job: Job) -> None:
        """As it has been saved; whoever waits for it hears of it."""
        self.job = job
        self.hands.waiting.tell(job.id)

    def attempt(self, number: int) -> Attempt:
        return self.job.attempts[number - 1]

    def place_of(self, attempt: Attempt) -> Place:
        return self.job.place_of(attempt)

    def start(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Unless it is being done already, or has failed and rests. Whether it was begun."""
        if key in self._tasks or self._is_paused(key):
            return False
        task = asyncio.create_task(work())
        self._tasks[key] = task
        task.add_done_callback(self._done)
        return True

    def _is_paused(self, key: Hashable) -> bool:
        return key in self._rests and asyncio.get_running_loop().time() < self._rests[key][1]

    def adopt(self, key: Hashable, other: Hashable) -> None:
        """The task that was started under one name goes on under another."""
        self._tasks[other] = self._tasks.pop(key)

    def _done(self, task: "asyncio.Task[None]") -> None:
        names = [name for name, one in self._tasks.items() if one is task]
        for name in names:
            del self._tasks[name]
        if not task.cancelled() and (error := task.exception()):
            self.hands.emit(Trouble(where="engine", what=fault_of(error), job=self.job.id))
            pauses = [self._rest(name, isinstance(error, PASSING)) for name in names]
            asyncio.get_running_loop().call_later(max(pauses, default=TROUBLE_PAUSE), self.mailbox.wake)
            return
        for name in names:
            self._rests.pop(name, None)
        self.mailbox.wake()

    def _rest(self, name: Hashable, is_passing: bool) -> float:
        """For how many seconds work of this name is not begun again."""
        last, _ = self._rests.get(name, (0.0, 0.0))
        pause = TROUBLE_PAUSE if is_passing else max(TROUBLE_PAUSE, min(2 * last, LONGEST_TROUBLE_PAUSE))
        self._rests[name] = pause, asyncio.get_running_loop().time() + pause
        return pause

    def stop(self, but: Collection[Hashable] = ()) -> None:
        for key, task in self._tasks.items():
            if key not in but:
                task.cancel()

    def stop_one(self, key: Hashable) -> None:
        if task := self._tasks.get(key):
            task.cancel()

    def is_busy_with(self, keys: Collection[Hashable]) -> bool:
        return any(key in keys for key in self._tasks)

    async def ended(self) -> None:
        """When all tasks have, after `stop`."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())
