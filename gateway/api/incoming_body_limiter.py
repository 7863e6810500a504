"""Limits how long a request body may take to arrive, and how much memory and disk all bodies take together."""

import asyncio
from time import monotonic
from typing import Any

from litestar.types import Receive

from gateway.api.api_errors import ApiError
from gateway.memory_budget import SMALL_BODY_BYTES, MemoryBudget, MemoryReservation
from gateway.timeouts_and_intervals import ApiTiming

MEMORY_RETRY_SECONDS = 2
GROWTH_FACTOR = 2


class IncomingBodyLimiter:
    """The `receive` callable of a request. Raises ApiError if the body stalls, or if no memory or disk becomes free in
    time. `elapsed_seconds`: the time spent waiting for the client."""

    def __init__(self, receive: Receive, budget: MemoryBudget, disk_budget: MemoryBudget, timing: ApiTiming) -> None:
        self._timing = timing
        self._receive, self._reservation = receive, budget.make_incoming_reservation()
        self._disk_budget = disk_budget
        self._disk_reservation: MemoryReservation | None = None
        self._held_bytes, self._reserved_bytes, self.elapsed_seconds = 0, SMALL_BODY_BYTES, 0.0
        self._disk_bytes = 0
        self.is_started = self._is_finished = False

    async def __call__(self) -> Any:
        if self._is_finished:
            # The only message left is the disconnect, which has no timeout.
            return await self._receive()
        self.is_started = True
        message = await self._receive_with_timeout()
        self._is_finished = not message.get("more_body", False)
        self._held_bytes += len(message.get("body", b""))
        if self._held_bytes > self._reserved_bytes:
            # Counts received bytes, not Content-Length: a client could declare any length at no cost.
            self._reserved_bytes = max(self._held_bytes, self._reserved_bytes * GROWTH_FACTOR)
            await self._reserve_more(self._reservation, self._reserved_bytes)
        return message

    async def reserve(self, extra_bytes: int) -> None:
        """Reserves memory in addition to the body, for instance for decoded images."""
        if self._held_bytes + extra_bytes > self._reserved_bytes:
            self._reserved_bytes = self._held_bytes + extra_bytes
            await self._reserve_more(self._reservation, self._reserved_bytes)

    async def move_to_disk(self, size: int) -> None:
        """Reserves disk for `size` bytes of the body, which then no longer count as held in memory."""
        if self._disk_reservation is None:
            self._disk_reservation = self._disk_budget.make_incoming_reservation()
        self._disk_bytes += size
        await self._reserve_more(self._disk_reservation, self._disk_bytes)
        self._held_bytes -= size

    def release(self) -> None:
        """Releases all memory and disk that were reserved for the body."""
        self._reservation.release()
        if self._disk_reservation is not None:
            self._disk_reservation.release()

    async def _receive_with_timeout(self) -> Any:
        """Receives one message. The timeouts count only the time that the gateway waits for the client."""
        started_at, timing = monotonic(), self._timing
        remaining_seconds = timing.body_timeout_seconds - self.elapsed_seconds
        try:
            async with asyncio.timeout(min(timing.body_stall_timeout_seconds, remaining_seconds)):
                return await self._receive()
        except TimeoutError:
            message = "The request body did not arrive in time. Retry the request."
            raise ApiError(408, "body_timeout", message, is_retryable=True, headers={"connection": "close"}) from None
        finally:
            self.elapsed_seconds += monotonic() - started_at

    async def _reserve_more(self, reservation: MemoryReservation, size: int) -> None:
        try:
            async with asyncio.timeout(self._timing.memory_timeout_seconds):
                await reservation.grow_to(size)
        except TimeoutError:
            message = f"Too many concurrent large request bodies. Retry in {MEMORY_RETRY_SECONDS} seconds."
            raise ApiError(503, "too_many_bodies", message, retry_after=MEMORY_RETRY_SECONDS) from None


def get_incoming_body(state: dict[str, Any]) -> IncomingBodyLimiter:
    incoming_body: IncomingBodyLimiter = state["incoming_body"]
    return incoming_body
