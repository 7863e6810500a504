"""A body on its way in: it must keep coming, and large ones share a limited room until they have become jobs."""

import asyncio
from time import monotonic
from typing import Any

from litestar.types import Receive

from gateway.api.api_errors import ApiError
from gateway.memory_budget import SMALL_BODY_BYTES, MemoryBudget

# Without a single byte; and for the whole body, however steadily it drips.
STALL_TIMEOUT_SECONDS = 30.0
BODY_TIMEOUT_SECONDS = 120.0
# For room among other bodies; whoever finds none in this time asks again, a moment later.
MEMORY_TIMEOUT_SECONDS = 10.0
MEMORY_RETRY_SECONDS = 2
GROWTH_FACTOR = 2


class BodyReceiver:
    """What a request's handlers receive by. ApiError if the caller stops sending, or if there is no room."""

    def __init__(self, receive: Receive, budget: MemoryBudget) -> None:
        self._receive, self._reservation = receive, budget.reserve_incoming()
        self._received_bytes, self._reserved_bytes, self._elapsed_seconds = 0, SMALL_BODY_BYTES, 0.0
        self.is_started = self._is_finished = False

    async def __call__(self) -> Any:
        if self._is_finished:
            # Only the end of the connection is left to come, and that may take as long as it likes.
            return await self._receive()
        self.is_started = True
        message = await self._receive_with_timeout()
        self._is_finished = not message.get("more_body", False)
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self._reserved_bytes:
            # By what has come, not by what is announced: announcing costs nothing.
            self._reserved_bytes = max(self._received_bytes, self._reserved_bytes * GROWTH_FACTOR)
            await self._reserve_more()
        return message

    async def reserve(self, extra_bytes: int) -> None:
        """As many bytes as have come of the body, beside it."""
        if self._received_bytes + extra_bytes > self._reserved_bytes:
            self._reserved_bytes = self._received_bytes + extra_bytes
            await self._reserve_more()

    def release(self) -> None:
        """Nothing of the body is held any more."""
        self._reservation.release()

    async def _receive_with_timeout(self) -> Any:
        """Time in which the caller waited for us is not his."""
        started_at = monotonic()
        try:
            async with asyncio.timeout(min(STALL_TIMEOUT_SECONDS, BODY_TIMEOUT_SECONDS - self._elapsed_seconds)):
                return await self._receive()
        except TimeoutError:
            message = "The body did not arrive in time: nothing was ordered. Ask again."
            raise ApiError(408, "body_timeout", message, final=False, headers={"connection": "close"}) from None
        finally:
            self._elapsed_seconds += monotonic() - started_at

    async def _reserve_more(self) -> None:
        try:
            async with asyncio.timeout(MEMORY_TIMEOUT_SECONDS):
                await self._reservation.grow(self._reserved_bytes)
        except TimeoutError:
            message = "Too much is being sent at once: nothing was ordered. Ask again."
            raise ApiError(503, "too_many_bodies", message, retry_after=MEMORY_RETRY_SECONDS) from None
