"""Delays of orders and responses, which a control route can end early."""

import asyncio
import contextlib


class Delays:
    """The delays of one vendor."""

    def __init__(self) -> None:
        self._end_event = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._end_event.wait()

    def end_all(self) -> None:
        """Ends the current delays. Later ones are not affected."""
        self._end_event.set()
        self._end_event = asyncio.Event()
