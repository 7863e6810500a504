"""Wall clock for timestamps and deadlines of jobs."""

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
        # The last time, and the monotonic time of it. One tuple, since threads of the store call the clock, too.
        self._last = wall(), monotonic()

    def __call__(self) -> float:
        last, last_monotonic = self._last
        monotonic_now = self._monotonic()
        elapsed = monotonic_now - last_monotonic
        now, max_slew = self._wall(), elapsed * MAX_SLEW_RATIO
        if not -max_slew <= now - last - elapsed <= max_slew:
            now = last + elapsed + (max_slew if now > last + elapsed else -max_slew)
        self._last = now, monotonic_now
        return now
