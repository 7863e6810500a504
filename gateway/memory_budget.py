"""The memory that large bodies may take together. Whoever finds none left waits in line.

What comes in goes before what is to go out: it has been paid for. And some room is kept for it alone, so that bodies
which leave slowly hold up each other, and no picture.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, Self

SMALL_BODY_BYTES = 64 << 10
DEFAULT_BUDGET_BYTES = 256 << 20
# Of four parts of the budget, so many may be taken by what is to go out.
_OUTGOING_QUARTERS = 3


class Reservation(Protocol):
    """What a body that comes in needs of memory, which it takes in steps."""

    max_step_bytes: int

    async def grow(self, size: int) -> None:
        """Waits until `size` bytes in all are there for it."""


class _Waiter(NamedTuple):
    reservation: "MemoryReservation"
    more_bytes: int
    granted: asyncio.Future[None]


class MemoryBudget:
    """Each line is served in its order; except that those who hold some and need more never wait for each other for
    ever."""

    def __init__(self, max_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        self.max_bytes = max_bytes
        self._max_outgoing_bytes = max_bytes * _OUTGOING_QUARTERS // 4
        self._incoming: deque[_Waiter] = deque()
        self._outgoing: deque[_Waiter] = deque()
        self._holder_count = 0
        self.reserved_bytes = 0
        self.outgoing_bytes = 0

    def reserve_incoming(self, timeout_seconds: asyncio.Timeout | None = None) -> "MemoryReservation":
        """For a body that comes in. Holds nothing yet. While it waits for room, the clock of `timeout_seconds` stands still."""
        return MemoryReservation(self, timeout_seconds=timeout_seconds)

    def reserve_outgoing(self) -> "MemoryReservation":
        """For a body that is to go out, whole before it does."""
        return MemoryReservation(self, is_outgoing=True)

    @property
    def waiter_count(self) -> int:
        return len(self._incoming) + len(self._outgoing)

    async def _grow_reservation(self, reservation: "MemoryReservation", size: int) -> None:
        """A body larger than all that it may take takes all of it."""
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
        """It may have been granted in the same moment; then its share gives it back with the rest."""
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
        # What goes out needs no more than it has.
        blocked = [waiter for waiter in self._incoming if waiter.reservation.held_bytes]
        if blocked and len(blocked) == self._holder_count:
            # All that hold memory wait for more, so none would ever give any back: one goes beyond the budget.
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
    """What one body takes of the budget."""

    max_step_bytes = 16 << 20
    __slots__ = ("_timeout", "budget", "held_bytes", "is_outgoing")

    def __init__(
        self, budget: MemoryBudget, *, is_outgoing: bool = False, timeout_seconds: asyncio.Timeout | None = None
    ) -> None:
        self.budget = budget
        self._timeout = timeout_seconds
        self.is_outgoing = is_outgoing
        self.held_bytes = 0

    async def grow(self, size: int) -> None:
        """Waits until `size` bytes in all are covered. Small bodies are not worth counting."""
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
def _pause_timeout(timeout_seconds: asyncio.Timeout | None) -> Iterator[None]:
    """What time passes here is our own doing, and no seller's: it does not count."""
    deadline = None if timeout_seconds is None or timeout_seconds.expired() else timeout_seconds.when()
    if timeout_seconds is None or deadline is None:
        yield
        return
    loop = asyncio.get_running_loop()
    paused_at = loop.time()
    timeout_seconds.reschedule(None)
    try:
        yield
    finally:
        timeout_seconds.reschedule(deadline + loop.time() - paused_at)
