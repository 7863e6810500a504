"""Log lines that clients can provoke, or an outage repeats: the first of a kind, then one a minute for all others.

What is counted is counted elsewhere, each time. Each line that is written says how many it stands for (`times`).
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

from msgspec import Struct

LogLine = dict[str, Any]
INTERVAL_SECONDS = 60.0
# Kinds come from closed sets. Should they not, the rest of them is one kind.
MAX_KINDS = 1_000
_OTHER_KINDS = object()


class _LineKind(Struct):
    """`written_count`: lines since `started_at`. `held_count`: how many were not written, and the last of them."""

    started_at: float
    written_count: int = 0
    held_count: int = 0
    last_line: LogLine = {}


class LogRateLimiter:
    """Asked by many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: dict[Hashable, _LineKind] = {}
        self._lock = threading.Lock()

    def try_admit(self, kind: Hashable, line: LogLine, burst: int) -> bool:
        """Whether it is to be written now: if there were fewer than `burst` of its kind in this minute."""
        with self._lock:
            state = self._kinds.get(kind)
            if state is None:
                kind = kind if len(self._kinds) < MAX_KINDS else _OTHER_KINDS
                state = self._kinds.setdefault(kind, _LineKind(self._clock()))
            if state.written_count < burst:
                state.written_count += 1
                return True
            state.held_count, state.last_line = state.held_count + 1, line
            return False

    def reset_kind(self, kind: Hashable) -> None:
        """The next line of this kind is its first. Lines that are held are dropped."""
        with self._lock:
            self._kinds.pop(kind, None)

    def pop_due_lines(self) -> list[LogLine]:
        """What was held for a minute."""
        now = self._clock()
        with self._lock:
            due_kinds = [kind for kind, state in self._kinds.items() if now - state.started_at >= INTERVAL_SECONDS]
            return [line for kind in due_kinds for line in self._pop_held_lines(kind, now)]

    def pop_all_lines(self) -> list[LogLine]:
        """What is held, however long."""
        with self._lock:
            return [line for kind in list(self._kinds) for line in self._pop_held_lines(kind, self._clock())]

    def _pop_held_lines(self, kind: Hashable, now: float) -> list[LogLine]:
        """A kind that goes on has had its line for the next minute."""
        state = self._kinds.pop(kind)
        if not state.held_count:
            return []
        self._kinds[kind] = _LineKind(now, written_count=1)
        return [{**state.last_line, "times": state.held_count}]
