"""What a job's tasks tell its owner. What lies there together is committed together."""

import asyncio
from collections.abc import Callable, Mapping

from msgspec import Struct

from gateway.jobs.facts import Happening


class Letter(Struct, frozen=True, kw_only=True):
    """Happenings that belong together, documents that are saved with them, and who waits for their being saved."""

    happenings: tuple[Happening, ...]
    documents: Mapping[str, bytes]
    dropped: tuple[str, ...]
    saved: "asyncio.Future[bool]"


class Mailbox:
    """Many write, one reads."""

    def __init__(self) -> None:
        self._letters: list[Letter] = []
        self._arrived = asyncio.Event()
        self._is_closed = False

    async def post(
        self,
        *happenings: Happening,
        documents: Mapping[str, bytes] | None = None,
        dropped: tuple[str, ...] = (),
        then: Callable[[], None] | None = None,
    ) -> bool:
        """Waits until it is saved. False if it changed nothing: it was not allowed, or nothing new.

        `then` is called if it is saved, also where that ends the job, and with it whoever waits here.
        """
        if self._is_closed:
            return False
        saved: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if then is not None:
            saved.add_done_callback(lambda told: then() if told.result() else None)
        self._letters.append(Letter(happenings=happenings, documents=documents or {}, dropped=dropped, saved=saved))
        self._arrived.set()
        return await asyncio.shield(saved)

    def wake(self) -> None:
        """Nothing is said, but there may be something to do."""
        self._arrived.set()

    async def letters(self, seconds: float) -> list[Letter]:
        """Everything that lies there; waits for the first, for so long at most."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._arrived.wait()
        except TimeoutError:
            return []
        self._arrived.clear()
        found, self._letters = self._letters, []
        return found

    def refuse_all(self) -> None:
        """Refuses all waiting letters, and those that are posted from now on."""
        self._is_closed = True
        for letter in self._letters:
            if not letter.saved.done():
                letter.saved.set_result(False)
        self._letters = []
