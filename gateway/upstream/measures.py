"""What is counted, in little and bounded memory however much happens: counts, latency quantiles, conformance."""

from collections import deque
from collections.abc import Sequence
from math import ceil, floor, inf, isfinite, log
from typing import Annotated

from msgspec import Meta, Struct

LATENCY_WINDOW = 180.0
LATENCY_WINDOWS = 5
# Neighbouring buckets are a tenth apart; a quantile is the mean of its bucket, so it is off by a few percent at most.
STEP = log(1.1)
LEAST_SECONDS, MOST_SECONDS = 0.1, 7_200.0
# Deliveries of up to a day ago, the last fifty of them; the day is cut off to the minute.
DELIVERIES, DELIVERIES_SECONDS, MINUTE = 50, 86_400.0, 60.0
ENOUGH = 5
Number = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


class Counts:
    """How many in the last `span` seconds, to within one of its buckets."""

    def __init__(self, span: float, buckets: int) -> None:
        self._width = span / buckets
        self._buckets = [(-1, 0)] * buckets

    def add(self, now: float) -> None:
        epoch = floor(now / self._width)
        place = epoch % len(self._buckets)
        since, count = self._buckets[place]
        self._buckets[place] = (epoch, count + 1 if since == epoch else 1)

    def total(self, now: float) -> int:
        last = floor(now / self._width)
        return sum(count for epoch, count in self._buckets if last - len(self._buckets) < epoch <= last)

    def clear(self) -> None:
        self._buckets = [(-1, 0)] * len(self._buckets)


class Latency(Struct, frozen=True, array_like=True):
    """Seconds until half, and nine in ten, of so many orders were done."""

    count: Number = 0
    p50: Seconds = 0.0
    p90: Seconds = 0.0


class Kept(Struct, frozen=True, array_like=True):
    """The share of so many deliveries that were as ordered."""

    count: Number = 0
    share: Annotated[float, Meta(ge=0, le=1)] = 0.0


class Latencies:
    """The successes of the last 12 to 15 minutes, in windows of buckets that grow with what they hold."""

    def __init__(self) -> None:
        self._windows: list[tuple[int, dict[int, tuple[int, float]]]] = [(-1, {})] * LATENCY_WINDOWS
        self._worked_out: tuple[int, Latency] | None = None

    def add(self, seconds: float, now: float) -> None:
        if not isfinite(seconds):
            return
        seconds = min(max(seconds, LEAST_SECONDS), MOST_SECONDS)
        epoch = floor(now / LATENCY_WINDOW)
        place = epoch % LATENCY_WINDOWS
        if self._windows[place][0] != epoch:
            self._windows[place] = (epoch, {})
        window, bucket = self._windows[place][1], floor(log(seconds) / STEP)
        count, total = window.get(bucket, (0, 0.0))
        window[bucket] = (count + 1, total + seconds)
        self._worked_out = None

    def latency(self, now: float) -> Latency:
        epoch = floor(now / LATENCY_WINDOW)
        if self._worked_out is None or self._worked_out[0] != epoch:
            self._worked_out = (epoch, _latency(self._recent(epoch)))
        return self._worked_out[1]

    def _recent(self, last: int) -> dict[int, tuple[int, float]]:
        together: dict[int, tuple[int, float]] = {}
        for epoch, window in self._windows:
            if last - LATENCY_WINDOWS < epoch <= last:
                for bucket, (count, total) in window.items():
                    counted, sum_of_them = together.get(bucket, (0, 0.0))
                    together[bucket] = (counted + count, sum_of_them + total)
        return together


def _latency(buckets: dict[int, tuple[int, float]]) -> Latency:
    count = sum(counted for counted, _ in buckets.values())
    return Latency(count, _quantile(buckets, count, 0.5), _quantile(buckets, count, 0.9)) if count else Latency()


def _quantile(buckets: dict[int, tuple[int, float]], count: int, share: float) -> float:
    left = ceil(count * share)
    for bucket in sorted(buckets):
        counted, total = buckets[bucket]
        left -= counted
        if left <= 0:
            break
    return total / counted


class Conformance:
    """The last deliveries of a day: when each was ordered, and whether what came is what was ordered."""

    def __init__(self) -> None:
        self._deliveries: deque[tuple[float, bool]] = deque(maxlen=DELIVERIES)
        self._worked_out: tuple[float, Kept] | None = None

    def add(self, as_ordered: bool, began: float) -> None:
        self._deliveries.append((began, as_ordered))
        self._worked_out = None

    def kept(self, now: float, since: float = -inf) -> Kept:
        """Of what was ordered `since` then, and not longer than a day ago."""
        oldest = max(floor(now / MINUTE) * MINUTE - DELIVERIES_SECONDS, since)
        if self._worked_out is None or self._worked_out[0] != oldest:
            self._worked_out = (
                oldest,
                _kept([as_ordered for began, as_ordered in self._deliveries if began >= oldest]),
            )
        return self._worked_out[1]


def _kept(deliveries: Sequence[bool]) -> Kept:
    return Kept(len(deliveries), sum(deliveries) / len(deliveries)) if deliveries else Kept()


def joint_latency(replicas: Sequence[Latency]) -> Latency:
    """Of several replicas, each with the weight of what it has seen."""
    count = sum(one.count for one in replicas)
    if not count:
        return Latency()
    p50 = sum(one.count * one.p50 for one in replicas) / count
    p90 = sum(one.count * one.p90 for one in replicas) / count
    return Latency(count, p50, p90)


def joint_kept(replicas: Sequence[Kept]) -> Kept:
    count = sum(one.count for one in replicas)
    return Kept(count, sum(one.count * one.share for one in replicas) / count) if count else Kept()
