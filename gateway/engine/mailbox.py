"""The mailbox of a job's worker. Messages that wait together are committed together."""

import asyncio
from collections.abc import Callable, Mapping

from msgspec import Struct

from gateway.jobs.job_update_types import JobUpdate


class Message(Struct, frozen=True, kw_only=True):
    """An update, the documents to save with it, and the future that the sender awaits."""

    update: JobUpdate
    documents: Mapping[str, bytes]
    removed_documents: tuple[str, ...]
    saved_future: "asyncio.Future[bool]"


class Mailbox:
    """The mailbox: many tasks post messages, one worker receives them."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._wake_event = asyncio.Event()
        self._is_closed = False

    async def post(
        self,
        update: JobUpdate,
        *,
        documents: Mapping[str, bytes] | None = None,
        removed_documents: tuple[str, ...] = (),
        on_saved: Callable[[], None] | None = None,
    ) -> bool:
        """Posts an update and waits until it is saved. Returns False if it was not allowed or changed nothing.

        `on_saved` is called if it is saved, even if that commit ends the job and cancels the waiting task.
        """
        if self._is_closed:
            return False
        saved_future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if on_saved is not None:
            saved_future.add_done_callback(lambda future: on_saved() if future.result() else None)
        self._messages.append(
            Message(
                update=update,
                documents=documents or {},
                removed_documents=removed_documents,
                saved_future=saved_future,
            )
        )
        self._wake_event.set()
        return await asyncio.shield(saved_future)

    def wake(self) -> None:
        """Wakes the worker without a message, since an action may be due."""
        self._wake_event.set()

    async def receive(self, timeout_seconds: float) -> list[Message]:
        """Returns all waiting messages. If there are none, waits for the first one for at most `timeout_seconds`."""
        timer = asyncio.get_running_loop().call_later(max(0.0, timeout_seconds), self._wake_event.set)
        try:
            await self._wake_event.wait()
        finally:
            timer.cancel()
        self._wake_event.clear()
        messages, self._messages = self._messages, []
        return messages

    def close(self) -> None:
        """Rejects all waiting messages and all that are posted later."""
        self._is_closed = True
        for message in self._messages:
            if not message.saved_future.done():
                message.saved_future.set_result(False)
        self._messages = []
