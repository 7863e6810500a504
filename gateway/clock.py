"""The time that jobs are written by."""

import threading
import time
from collections.abc import Callable

# By so much of the time that passes, the clock may be set right.
SHARE = 0.1


class SteadyClock:
    """Wall-clock time that never jumps, however the machine's clock is set while this process runs.

    Deadlines are moments of it: a jump would end every order that is on its way, or have nobody ask about any. When the
    machine's clock has been set, this one follows it slowly, so that replicas agree again in the end.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._now, self._then = wall(), monotonic()
        # A store's thread asks, too.
        self._reading = threading.Lock()

    def __call__(self) -> float:
        with self._reading:
            then = self._monotonic()
            passed = then - self._then
            expected = self._now + passed
            most = passed * SHARE
            self._now = expected + min(max(self._wall() - expected, -most), most)
            self._then = then
            return self._now
