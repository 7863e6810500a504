"""Delays of orders and responses, which a control route can end early."""

import asyncio
import contextlib


class Delay:
    """A delay that may be ended from its creation on, also before `sleep` is called."""

    def __init__(self, end_event: asyncio.Event) -> None:
        self._end_event = end_event

    async def sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._end_event.wait()


class Delays:
    """The delays of one vendor."""

    def __init__(self) -> None:
        self._end_event = asyncio.Event()

    def create_delay(self) -> Delay:
        return Delay(self._end_event)

    def end_all(self) -> None:
        """Ends the current delays. Later ones are not affected."""
        self._end_event.set()
        self._end_event = asyncio.Event()
