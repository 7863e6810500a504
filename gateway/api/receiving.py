"""A body on its way in: it must keep coming, and large ones share a limited room until they have become jobs."""

import asyncio
from time import monotonic
from typing import Any

from litestar.types import Receive

from gateway.api.errors import ApiError
from gateway.upstream.budget import SMALL_BYTES, ByteBudget

# Without a single byte; and for the whole body, however steadily it drips.
STALL_SECONDS = 30.0
BODY_SECONDS = 120.0
# For room among other bodies; whoever finds none in this time asks again, a moment later.
ROOM_SECONDS = 10.0
RETRY_SECONDS = 2
GROWTH = 2


class Receiving:
    """What a request's handlers receive by. ApiError if the caller stops sending, or if there is no room."""

    def __init__(self, receive: Receive, budget: ByteBudget) -> None:
        self._receive, self._share = receive, budget.share()
        self._size, self._covered, self._seconds = 0, SMALL_BYTES, 0.0
        self.has_begun = self._has_ended = False

    async def __call__(self) -> Any:
        if self._has_ended:
            # Only the end of the connection is left to come, and that may take as long as it likes.
            return await self._receive()
        self.has_begun = True
        message = await self._next()
        self._has_ended = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > self._covered:
            # By what has come, not by what is announced: announcing costs nothing.
            self._covered = max(self._size, self._covered * GROWTH)
            await self._grow()
        return message

    async def hold(self, size: int) -> None:
        """As many bytes as have come of the body, beside it."""
        if self._size + size > self._covered:
            self._covered = self._size + size
            await self._grow()

    def let_go(self) -> None:
        """Nothing of the body is held any more."""
        self._share.give_back()

    async def _next(self) -> Any:
        """Time in which the caller waited for us is not his."""
        began = monotonic()
        try:
            async with asyncio.timeout(min(STALL_SECONDS, BODY_SECONDS - self._seconds)):
                return await self._receive()
        except TimeoutError:
            message = "The body did not arrive in time: nothing was ordered. Ask again."
            raise ApiError(408, "body_timeout", message, final=False, headers={"connection": "close"}) from None
        finally:
            self._seconds += monotonic() - began

    async def _grow(self) -> None:
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await self._share.grow(self._covered)
        except TimeoutError:
            message = "Too much is being sent at once: nothing was ordered. Ask again."
            raise ApiError(503, "too_many_bodies", message, retry_after=RETRY_SECONDS) from None
