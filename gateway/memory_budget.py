"""A memory budget that large bodies share. A body for which no memory is free waits in a queue.

Incoming bodies are served first: a seller's response may contain images that are paid for. A quarter of the budget is
reserved for them, so that slow uploads delay only each other.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, Self

SMALL_BODY_BYTES = 64 << 10
DEFAULT_BUDGET_BYTES = 256 << 20
# How many quarters of the budget outgoing bodies may use.
_OUTGOING_QUARTERS = 3


class Reservation(Protocol):
    """The memory of an incoming body, which grows in steps."""

    max_step_bytes: int

    async def grow_to(self, size: int) -> None:
        """Waits until `size` bytes in total are reserved."""


class _Waiter(NamedTuple):
    reservation: "MemoryReservation"
    more_bytes: int
    granted: asyncio.Future[None]


class MemoryBudget:
    """The memory budget. Each queue is served in its order.

    Exception: if all holders of memory wait for more, one of them exceeds the budget, so that they do not deadlock.
    """

    def __init__(self, max_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self.max_bytes = max_bytes
        self._max_outgoing_bytes = max_bytes * _OUTGOING_QUARTERS // 4
        self._incoming: deque[_Waiter] = deque()
        self._outgoing: deque[_Waiter] = deque()
        self._holder_count = 0
        self.reserved_bytes = 0
        self.outgoing_bytes = 0

    def make_incoming_reservation(self, timeout: asyncio.Timeout | None = None) -> "MemoryReservation":
        """Returns an empty reservation for an incoming body. While it waits for memory, `timeout` is paused."""
        return MemoryReservation(self, timeout=timeout)

    def make_outgoing_reservation(self) -> "MemoryReservation":
        """Returns an empty reservation for an outgoing body, which reserves all its memory before it is sent."""
        return MemoryReservation(self, is_outgoing=True)

    @property
    def waiter_count(self) -> int:
        return len(self._incoming) + len(self._outgoing)

    async def _grow_reservation(self, reservation: "MemoryReservation", size: int) -> None:
        """Waits for memory. A body larger than the limit reserves the whole limit."""
        more_bytes = (
            min(size, self._max_outgoing_bytes if reservation.is_outgoing else self.max_bytes) - reservation.held_bytes
        )
        if more_bytes <= 0:
            return
        queue = self._outgoing if reservation.is_outgoing else self._incoming
        waiter = _Waiter(reservation, more_bytes, asyncio.get_running_loop().create_future())
        queue.append(waiter)
        self._grant_waiters()
        try:
            await waiter.granted
        except asyncio.CancelledError:
            self._remove_waiter(queue, waiter)
            raise

    def _remove_waiter(self, queue: deque[_Waiter], waiter: _Waiter) -> None:
        """Removes a cancelled waiter. If it was granted in the same moment, its reservation releases the memory."""
        if waiter in queue:
            queue.remove(waiter)
        self._grant_waiters()

    def _release_reservation(self, reservation: "MemoryReservation") -> None:
        self._holder_count -= reservation.held_bytes > 0
        self.reserved_bytes -= reservation.held_bytes
        self.outgoing_bytes -= reservation.held_bytes if reservation.is_outgoing else 0
        reservation.held_bytes = 0
        self._grant_waiters()

    def _grant_waiters(self) -> None:
        while self._incoming and self._has_room(self._incoming[0]):
            self._grant_waiter(self._incoming.popleft())
        while self._outgoing and not self._incoming and self._has_room(self._outgoing[0]):
            self._grant_waiter(self._outgoing.popleft())
        # Outgoing bodies never grow once they hold memory.
        blocked = [waiter for waiter in self._incoming if waiter.reservation.held_bytes]
        if blocked and len(blocked) == self._holder_count:
            # All holders wait for more memory, so none would ever release any. One of them exceeds the budget.
            self._incoming.remove(blocked[0])
            self._grant_waiter(blocked[0])

    def _has_room(self, waiter: _Waiter) -> bool:
        if waiter.reservation.is_outgoing and self.outgoing_bytes + waiter.more_bytes > self._max_outgoing_bytes:
            return False
        return self.reserved_bytes + waiter.more_bytes <= self.max_bytes

    def _grant_waiter(self, waiter: _Waiter) -> None:
        reservation = waiter.reservation
        self._holder_count += reservation.held_bytes == 0
        reservation.held_bytes += waiter.more_bytes
        self.reserved_bytes += waiter.more_bytes
        self.outgoing_bytes += waiter.more_bytes if reservation.is_outgoing else 0
        if not waiter.granted.done():
            waiter.granted.set_result(None)


class MemoryReservation:
    """The memory that one body holds of the budget."""

    max_step_bytes = 16 << 20
    __slots__ = ("_timeout", "budget", "held_bytes", "is_outgoing")

    def __init__(
        self, budget: MemoryBudget, *, is_outgoing: bool = False, timeout: asyncio.Timeout | None = None
    ) -> None:
        self.budget = budget
        self._timeout = timeout
        self.is_outgoing = is_outgoing
        self.held_bytes = 0

    async def grow_to(self, size: int) -> None:
        """Waits until `size` bytes in total are reserved. Small bodies are not counted."""
        if size > SMALL_BODY_BYTES:
            with _pause_timeout(self._timeout):
                await self.budget._grow_reservation(self, size)

    def release(self) -> None:
        if self.held_bytes:
            self.budget._release_reservation(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@contextmanager
def _pause_timeout(timeout: asyncio.Timeout | None) -> Iterator[None]:
    """Pauses the timeout: the seller did not cause the wait for memory."""
    deadline = None if timeout is None or timeout.expired() else timeout.when()
    if timeout is None or deadline is None:
        yield
        return
    loop = asyncio.get_running_loop()
    paused_at = loop.time()
    timeout.reschedule(None)
    try:
        yield
    finally:
        timeout.reschedule(deadline + loop.time() - paused_at)
