"""Limits how often log lines of one kind are written: the first at once, then one per minute for all others.

It protects the log from lines that clients can provoke or that an outage repeats. If a line stands for several, its
field `repeated` contains their number. Metrics are not affected: they count every event.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any

from msgspec import Struct

LogLine = dict[str, Any]
# Kinds come from closed sets. If there are more of them by mistake, all further kinds share one limit.
MAX_KINDS = 1_000
_OTHER_KINDS = object()


class _LineKind(Struct):
    """State of one kind: lines written since `started_at`, lines held back since then, and the last of these."""

    started_at: float
    written_count: int = 0
    held_count: int = 0
    last_line: LogLine = {}


class LogRateLimiter:
    """Decides which log lines are written. Thread-safe."""

    def __init__(self, interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._kinds: dict[Hashable, _LineKind] = {}
        self._lock = threading.Lock()

    def try_admit(self, kind: Hashable, line: LogLine, burst: int) -> bool:
        """Returns whether to write the line now: fewer than `burst` lines of its kind were written in this minute.

        A line that is not admitted is held back, and replaces the one that was held before.
        """
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
        """Forgets this kind: its next line is written at once. Held lines are dropped."""
        with self._lock:
            self._kinds.pop(kind, None)

    def pop_due_lines(self) -> list[LogLine]:
        """Removes and returns the held lines of all kinds whose minute is over."""
        now = self._clock()
        with self._lock:
            due_kinds = [
                kind for kind, state in self._kinds.items() if now - state.started_at >= self._interval_seconds
            ]
            return [line for kind in due_kinds for line in self._pop_held_lines(kind, now)]

    def pop_all_lines(self) -> list[LogLine]:
        """Removes and returns all held lines. Used at shutdown."""
        with self._lock:
            return [line for kind in list(self._kinds) for line in self._pop_held_lines(kind, self._clock())]

    def _pop_held_lines(self, kind: Hashable, now: float) -> list[LogLine]:
        """Ends the minute of a kind. The returned line counts as the first of its next minute."""
        state = self._kinds.pop(kind)
        if not state.held_count:
            return []
        self._kinds[kind] = _LineKind(now, written_count=1)
        return [{**state.last_line, "repeated": state.held_count}]
