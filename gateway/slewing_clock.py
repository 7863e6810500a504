"""Wall clock for timestamps and deadlines of jobs."""

import threading
import time
from collections.abc import Callable

# Maximum correction, as a share of the elapsed time.
MAX_SLEW_RATIO = 0.1


class SlewingClock:
    """Wall clock that never jumps, even if the system clock is set. It follows the system clock slowly, so that
    replicas agree again.

    Deadlines are moments of this clock: a jump would end all running orders, or stop polling them.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._now, self._last_monotonic = wall(), monotonic()
        # Threads of the store call it, too.
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
