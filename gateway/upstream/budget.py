"""The memory that large bodies may take together. Whoever finds none left waits in line.

What comes in goes before what is to go out: it has been paid for. And some room is kept for it alone, so that bodies
which leave slowly hold up each other, and no picture.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, Self

SMALL_BYTES = 64 << 10
DEFAULT_BYTES = 256 << 20
# Of four parts of the budget, so many may be taken by what is to go out.
_QUARTERS_TO_SEND = 3


class Room(Protocol):
    """What a body that comes in needs of memory, which it takes in steps."""

    max_step: int

    async def grow(self, size: int) -> None:
        """Waits until `size` bytes in all are there for it."""


class _Waiting(NamedTuple):
    share: "Share"
    more: int
    granted: asyncio.Future[None]


class ByteBudget:
    """Each line is served in its order; except that those who hold some and need more never wait for each other for
    ever."""

    def __init__(self, most_bytes: int = DEFAULT_BYTES) -> None:
        self.total = most_bytes
        self._most_to_send = most_bytes * _QUARTERS_TO_SEND // 4
        self._coming: deque[_Waiting] = deque()
        self._going: deque[_Waiting] = deque()
        self._holders = 0
        self.taken = 0
        self.taken_to_send = 0

    def share(self, limit: asyncio.Timeout | None = None) -> "Share":
        """For a body that comes in. Holds nothing yet. While it waits for room, the clock of `limit` stands still."""
        return Share(self, limit=limit)

    def share_to_send(self) -> "Share":
        """For a body that is to go out, whole before it does."""
        return Share(self, to_send=True)

    @property
    def waiting(self) -> int:
        return len(self._coming) + len(self._going)

    async def _grow(self, share: "Share", size: int) -> None:
        """A body larger than all that it may take takes all of it."""
        more = min(size, self._most_to_send if share.to_send else self.total) - share.held
        if more <= 0:
            return
        line = self._going if share.to_send else self._coming
        waiting = _Waiting(share, more, asyncio.get_running_loop().create_future())
        line.append(waiting)
        self._serve()
        try:
            await waiting.granted
        except asyncio.CancelledError:
            self._leave(line, waiting)
            raise

    def _leave(self, line: deque[_Waiting], waiting: _Waiting) -> None:
        """It may have been granted in the same moment; then its share gives it back with the rest."""
        if waiting in line:
            line.remove(waiting)
        self._serve()

    def _take_back(self, share: "Share") -> None:
        self._holders -= share.held > 0
        self.taken -= share.held
        self.taken_to_send -= share.held if share.to_send else 0
        share.held = 0
        self._serve()

    def _serve(self) -> None:
        while self._coming and self._fits(self._coming[0]):
            self._grant(self._coming.popleft())
        while self._going and not self._coming and self._fits(self._going[0]):
            self._grant(self._going.popleft())
        # What goes out needs no more than it has.
        stuck = [waiting for waiting in self._coming if waiting.share.held]
        if stuck and len(stuck) == self._holders:
            # All that hold memory wait for more, so none would ever give any back: one goes beyond the budget.
            self._coming.remove(stuck[0])
            self._grant(stuck[0])

    def _fits(self, waiting: _Waiting) -> bool:
        if waiting.share.to_send and self.taken_to_send + waiting.more > self._most_to_send:
            return False
        return self.taken + waiting.more <= self.total

    def _grant(self, waiting: _Waiting) -> None:
        share = waiting.share
        self._holders += share.held == 0
        share.held += waiting.more
        self.taken += waiting.more
        self.taken_to_send += waiting.more if share.to_send else 0
        if not waiting.granted.done():
            waiting.granted.set_result(None)


class Share:
    """What one body takes of the budget."""

    max_step = 16 << 20
    __slots__ = ("_limit", "budget", "held", "to_send")

    def __init__(self, budget: ByteBudget, *, to_send: bool = False, limit: asyncio.Timeout | None = None) -> None:
        self.budget = budget
        self._limit = limit
        self.to_send = to_send
        self.held = 0

    async def grow(self, size: int) -> None:
        """Waits until `size` bytes in all are covered. Small bodies are not worth counting."""
        if size > SMALL_BYTES:
            with _off_the_clock(self._limit):
                await self.budget._grow(self, size)

    def give_back(self) -> None:
        if self.held:
            self.budget._take_back(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()


@contextmanager
def _off_the_clock(limit: asyncio.Timeout | None) -> Iterator[None]:
    """What time passes here is our own doing, and no seller's: it does not count."""
    ends = None if limit is None or limit.expired() else limit.when()
    if limit is None or ends is None:
        yield
        return
    loop = asyncio.get_running_loop()
    began = loop.time()
    limit.reschedule(None)
    try:
        yield
    finally:
        limit.reschedule(ends + loop.time() - began)
