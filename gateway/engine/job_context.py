"""The context that the tasks of one job share: the saved job, the worker's mailbox, and the running tasks."""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Hashable
from typing import Any

from gateway.assets.storage import StorageUnavailable
from gateway.engine.engine_context import EngineContext
from gateway.engine.job_documents import DECODE_ERRORS, OrderDocuments, decode_order_documents
from gateway.engine.mailbox import Mailbox
from gateway.events import ErrorReported, describe_exception
from gateway.jobs.document_names import PROMPT, REQUEST, TERMS
from gateway.jobs.job import Attempt, Job, RouteEntry
from gateway.store.base import StoreUnavailable

TRANSIENT_ERRORS = (StoreUnavailable, StorageUnavailable)


class JobContext:
    """The shared state of one job's tasks. `fence` proves the lease. Only the worker changes `job`.

    `order_documents`: None in a worker that reclaimed the job, until a task has loaded them.
    """

    def __init__(self, engine_context: EngineContext, job: Job, fence: int) -> None:
        self.engine_context = engine_context
        self.job = job
        self.fence = fence
        self.order_documents: OrderDocuments | None = None
        self.mailbox = Mailbox()
        # Both events are set when the worker saves a change. A poll of an open order sets only the first.
        self.progress_event = asyncio.Event()
        self.saved_event = asyncio.Event()
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        # By key of the task: its last backoff in seconds, and the time at which the backoff ends.
        self._backoffs: dict[Hashable, tuple[float, float]] = {}

    def set_job(self, job: Job) -> None:
        """Sets the job after it was saved, and notifies its watchers in this process."""
        self.job = job
        self.engine_context.job_watchers.notify(job.id)

    async def load_order_documents(self) -> OrderDocuments | None:
        """Returns the documents that orders are made from; None if they are not stored any more, or cannot be decoded:
        then no later try can help, so a missing request and an undecodable one have the same consequences."""
        if self.order_documents is None:
            saved = await self.engine_context.store.load_documents(self.job.id, REQUEST, PROMPT, TERMS)
            try:
                self.order_documents = decode_order_documents(saved)
            except DECODE_ERRORS as error:
                message = f"The saved request cannot be decoded, so no order is sent: {describe_exception(error)}"
                self.engine_context.emit(ErrorReported(component="engine", message=message, job=self.job.id))
        return self.order_documents

    def get_attempt(self, number: int) -> Attempt:
        return self.job.attempts[number - 1]

    def get_route_entry(self, attempt: Attempt) -> RouteEntry:
        return self.job.route[attempt.route_index]

    def start_task(self, key: Hashable, task_function: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Starts a task, unless one with this key runs or is backing off. Returns whether it was started."""
        if key in self._tasks or self.is_backing_off(key):
            return False
        task = asyncio.create_task(task_function())
        self._tasks[key] = task
        task.add_done_callback(self._on_task_done)
        return True

    def is_backing_off(self, key: Hashable) -> bool:
        return key in self._backoffs and asyncio.get_running_loop().time() < self._backoffs[key][1]

    def rename_task(self, key: Hashable, new_key: Hashable) -> None:
        """Changes the key of a running task."""
        self._tasks[new_key] = self._tasks.pop(key)

    def _on_task_done(self, task: "asyncio.Task[None]") -> None:
        keys = [key for key, other in self._tasks.items() if other is task]
        for key in keys:
            del self._tasks[key]
        if not task.cancelled() and (error := task.exception()):
            self.engine_context.emit(
                ErrorReported(component="engine", message=describe_exception(error), job=self.job.id)
            )
            backoffs = [self._extend_backoff(key, isinstance(error, TRANSIENT_ERRORS)) for key in keys]
            min_backoff = self.engine_context.timing.workers.min_backoff_seconds
            asyncio.get_running_loop().call_later(max(backoffs, default=min_backoff), self.mailbox.wake)
            return
        for key in keys:
            self._backoffs.pop(key, None)
        self.mailbox.wake()

    def _extend_backoff(self, key: Hashable, is_transient: bool) -> float:
        """Sets and returns the backoff, in seconds, for tasks of this key."""
        timing = self.engine_context.timing.workers
        last_backoff, _ = self._backoffs.get(key, (0.0, 0.0))
        backoff = (
            timing.min_backoff_seconds
            if is_transient
            else max(timing.min_backoff_seconds, min(2 * last_backoff, timing.max_backoff_seconds))
        )
        self._backoffs[key] = backoff, asyncio.get_running_loop().time() + backoff
        return backoff

    def cancel_tasks(self, keep: Collection[Hashable] = ()) -> None:
        for key, task in self._tasks.items():
            if key not in keep:
                task.cancel()

    def cancel_task(self, key: Hashable) -> None:
        if task := self._tasks.get(key):
            task.cancel()

    def has_task(self, keys: Collection[Hashable]) -> bool:
        return any(key in keys for key in self._tasks)

    async def wait_for_tasks(self) -> None:
        """Waits until all tasks have ended. Call `cancel_tasks` first."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())
