"""The time that jobs are written by."""

import threading
import time
from collections.abc import Callable

# By so much of the time that passes, the clock may be set right.
MAX_SLEW_RATIO = 0.1


class SlewingClock:
    """Wall-clock time that never jumps, however the machine's clock is set while this process runs.

    Deadlines are moments of it: a jump would end every order that is on its way, or have nobody ask about any. When the
    machine's clock has been set, this one follows it slowly, so that replicas agree again in the end.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._now, self._last_monotonic = wall(), monotonic()
        # A store's thread asks, too.
        self._lock = threading.Lock()

    def __call__(self) -> float:
        with self._lock:
            monotonic_now = self._monotonic()
            elapsed = monotonic_now - self._last_monotonic
            expected = self._now + elapsed
            max_slew = elapsed * MAX_SLEW_RATIO
            self._now = expected + min(max(self._wall() - expected, -max_slew), max_slew)
            self._last_monotonic = monotonic_now
            return self._now
