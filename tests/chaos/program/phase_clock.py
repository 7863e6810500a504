"""Measures how long each phase of a chaos run takes."""

import time
from collections.abc import Callable


class PhaseClock:
    """Each phase lasts until the next one begins."""

    def __init__(self, first_phase: str, read_clock: Callable[[], float] = time.monotonic) -> None:
        self._read_clock = read_clock
        self._begun = [(first_phase, read_clock())]

    def begin(self, phase: str) -> None:
        """Begins a phase. Does nothing if it is the present one."""
        if self._begun[-1][0] != phase:
            self._begun.append((phase, self._read_clock()))

    def describe(self) -> str:
        ends = [*(begun_at for _, begun_at in self._begun[1:]), self._read_clock()]
        phases = [f"{name} {end - begun_at:.0f} s" for (name, begun_at), end in zip(self._begun, ends, strict=True)]
        return ", ".join(phases)
