"""Log lines that clients can provoke, or an outage repeats: the first of a kind, then one a minute for all others.

What is counted is counted elsewhere, each time. Each line that is written says how many it stands for (`times`).
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

from msgspec import Struct

Line = dict[str, Any]
INTERVAL_SECONDS = 60.0
# Kinds come from closed sets. Should they not, the rest of them is one kind.
MAX_KINDS = 1_000
_REST = object()


class _Kind(Struct):
    """`written`: lines since `began`. `held`: how many were not written, and the last of them."""

    began: float
    written: int = 0
    held: int = 0
    last: Line = {}


class LineLimiter:
    """Asked by many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}
        self._lock = threading.Lock()

    def admits(self, kind: Hashable, line: Line, burst: int) -> bool:
        """Whether it is to be written now: if there were fewer than `burst` of its kind in this minute."""
        with self._lock:
            known = self._kinds.get(kind)
            if known is None:
                kind = kind if len(self._kinds) < MAX_KINDS else _REST
                known = self._kinds.setdefault(kind, _Kind(self._clock()))
            if known.written < burst:
                known.written += 1
                return True
            known.held, known.last = known.held + 1, line
            return False

    def forget(self, kind: Hashable) -> None:
        """The next line of this kind is its first. Lines that are held are dropped."""
        with self._lock:
            self._kinds.pop(kind, None)

    def due(self) -> list[Line]:
        """What was held for a minute."""
        now = self._clock()
        with self._lock:
            over = [kind for kind, known in self._kinds.items() if now - known.began >= INTERVAL_SECONDS]
            return [line for kind in over for line in self._ended(kind, now)]

    def rest(self) -> list[Line]:
        """What is held, however long."""
        with self._lock:
            return [line for kind in list(self._kinds) for line in self._ended(kind, self._clock())]

    def _ended(self, kind: Hashable, now: float) -> list[Line]:
        """A kind that goes on has had its line for the next minute."""
        known = self._kinds.pop(kind)
        if not known.held:
            return []
        self._kinds[kind] = _Kind(now, written=1)
        return [{**known.last, "times": known.held}]
