"""New series, which are exported as 0 for a time: Prometheus computes increases between two samples of a series, so it
would miss the value that a series begins with."""

from collections.abc import Callable
from typing import Generic, TypeVar

Series = TypeVar("Series")


class NewSeries(Generic[Series]):
    """The series that appeared less than `zero_seconds` ago."""

    def __init__(self, clock: Callable[[], float], zero_seconds: float) -> None:
        self._clock, self._zero_seconds = clock, zero_seconds
        self._zero_until: dict[Series, float] = {}

    def add(self, series: Series) -> None:
        self._zero_until[series] = self._clock() + self._zero_seconds

    def list_current(self) -> frozenset[Series]:
        now = self._clock()
        self._zero_until = {series: until for series, until in self._zero_until.items() if now < until}
        return frozenset(self._zero_until)
