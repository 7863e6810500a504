"""What a job's tasks tell its owner. What lies there together is committed together."""

import asyncio
from collections.abc import Callable, Mapping

from msgspec import Struct

from gateway.jobs.updates import JobUpdate


class Message(Struct, frozen=True, kw_only=True):
    """Happenings that belong together, documents that are saved with them, and who waits for their being saved."""

    updates: tuple[JobUpdate, ...]
    documents: Mapping[str, bytes]
    removed_documents: tuple[str, ...]
    saved_future: "asyncio.Future[bool]"


class Mailbox:
    """Many write, one reads."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._wake_event = asyncio.Event()
        self._is_closed = False

    async def post(
        self,
        *updates: JobUpdate,
        documents: Mapping[str, bytes] | None = None,
        removed_documents: tuple[str, ...] = (),
        on_saved: Callable[[], None] | None = None,
    ) -> bool:
        """Waits until it is saved. False if it changed nothing: it was not allowed, or nothing new.

        `on_saved` is called if it is saved, also where that ends the job, and with it whoever waits here.
        """
        if self._is_closed:
            return False
        saved_future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if on_saved is not None:
            saved_future.add_done_callback(lambda future: on_saved() if future.result() else None)
        self._messages.append(
            Message(
                updates=updates,
                documents=documents or {},
                removed_documents=removed_documents,
                saved_future=saved_future,
            )
        )
        self._wake_event.set()
        return await asyncio.shield(saved_future)

    def wake(self) -> None:
        """Nothing is said, but there may be something to do."""
        self._wake_event.set()

    async def receive(self, timeout_seconds: float) -> list[Message]:
        """Everything that lies there; waits for the first, for so long at most."""
        try:
            async with asyncio.timeout(max(0.0, timeout_seconds)):
                await self._wake_event.wait()
        except TimeoutError:
            return []
        self._wake_event.clear()
        messages, self._messages = self._messages, []
        return messages

    def close(self) -> None:
        """Refuses all waiting letters, and those that are posted from now on."""
        self._is_closed = True
        for message in self._messages:
            if not message.saved_future.done():
                message.saved_future.set_result(False)
        self._messages = []
