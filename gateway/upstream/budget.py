"""The memory that large bodies may take together. Whoever finds none left waits in line."""

import asyncio
from collections import deque
from typing import NamedTuple

SMALL_BYTES = 64 << 10
DEFAULT_BYTES = 256 << 20


class _Waiting(NamedTuple):
    share: "Share"
    more: int
    granted: asyncio.Future[None]


class ByteBudget:
    """First come, first served; except that those who hold some and need more never wait for each other for ever."""

    def __init__(self, most_bytes: int = DEFAULT_BYTES) -> None:
        self._most = most_bytes
        self._line: deque[_Waiting] = deque()
        self._holders = 0
        self.taken = 0

    def share(self) -> "Share":
        """Holds nothing yet."""
        return Share(self)

    @property
    def waiting(self) -> int:
        return len(self._line)

    async def _grow(self, share: "Share", size: int) -> None:
        """A body larger than the whole budget takes all of it."""
        more = min(size, self._most) - share.held
        if more <= 0:
            return
        if not self._line and self.taken + more <= self._most:
            self._give(share, more)
            return
        waiting = _Waiting(share, more, asyncio.get_running_loop().create_future())
        self._line.append(waiting)
        self._serve()
        try:
            await waiting.granted
        except asyncio.CancelledError:
            self._leave(waiting)
            raise

    def _leave(self, waiting: _Waiting) -> None:
        """It may have been granted in the same moment; then its share gives it back with the rest."""
        if waiting in self._line:
            self._line.remove(waiting)
        self._serve()

    def _give(self, share: "Share", more: int) -> None:
        self._holders += share.held == 0
        share.held += more
        self.taken += more

    def _take_back(self, share: "Share") -> None:
        self._holders -= share.held > 0
        self.taken -= share.held
        share.held = 0
        self._serve()

    def _serve(self) -> None:
        while self._line and self.taken + self._line[0].more <= self._most:
            self._grant(self._line.popleft())
        stuck = [waiting for waiting in self._line if waiting.share.held]
        if stuck and len(stuck) == self._holders:
            # All that hold memory wait for more, so none would ever give any back: one goes beyond the budget.
            self._line.remove(stuck[0])
            self._grant(stuck[0])

    def _grant(self, waiting: _Waiting) -> None:
        self._give(waiting.share, waiting.more)
        if not waiting.granted.done():
            waiting.granted.set_result(None)


class Share:
    """What one body takes of the budget."""

    __slots__ = ("_budget", "held")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.held = 0

    async def grow(self, size: int) -> None:
        """Waits until `size` bytes in all are covered. Small bodies are not worth counting."""
        if size > SMALL_BYTES:
            await self._budget._grow(self, size)

    def give_back(self) -> None:
        if self.held:
            self._budget._take_back(self)
