"""What the tasks of one job share: the job as it is saved, the mailbox of its owner, and the tasks themselves."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable
from typing import Any

from gateway.engine.hands import Hands
from gateway.engine.mailbox import Mailbox
from gateway.events import Trouble, fault_of
from gateway.jobs.job import Attempt, Job, Place

TROUBLE_PAUSE = 1.0


class Desk:
    """`fence` proves that the job is ours. Only the owner changes `job`."""

    def __init__(self, hands: Hands, job: Job, fence: int) -> None:
        self.hands = hands
        self.job = job
        self.fence = fence
        self.mailbox = Mailbox()
        # Once something has come of owning the job: a change was saved, or what was ordered has been asked about.
        self.has_got_on = asyncio.Event()
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}

    def becomes(self, job: Job) -> None:
        """As it has been saved; whoever waits for it hears of it."""
        self.job = job
        self.hands.waiting.tell(job.id)

    def attempt(self, number: int) -> Attempt:
        return self.job.attempts[number - 1]

    def place_of(self, attempt: Attempt) -> Place:
        return self.job.place_of(attempt)

    def start(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Unless it is being done already."""
        if key in self._tasks:
            return
        task = asyncio.create_task(work())
        self._tasks[key] = task
        task.add_done_callback(self._done)

    def adopt(self, key: Hashable, other: Hashable) -> None:
        """The task that was started under one name goes on under another."""
        self._tasks[other] = self._tasks.pop(key)

    def _done(self, task: "asyncio.Task[None]") -> None:
        for name in [name for name, one in self._tasks.items() if one is task]:
            del self._tasks[name]
        if not task.cancelled() and (error := task.exception()):
            self.hands.emit(Trouble(where="engine", what=fault_of(error), job=self.job.id))
            # What failed for a reason that nobody thought of is begun again, but not as fast as it fails.
            asyncio.get_running_loop().call_later(TROUBLE_PAUSE, self.mailbox.wake)
        else:
            self.mailbox.wake()

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
