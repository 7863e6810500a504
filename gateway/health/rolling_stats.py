"""Statistics in bounded memory: sliding window counter, latency quantiles, conformance rate."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import accumulate
from math import ceil, floor, inf, isfinite, log
from typing import Annotated

from msgspec import Meta, Struct

LATENCY_WINDOW_SECONDS = 180.0
LATENCY_WINDOW_COUNT = 5
# Neighbouring buckets differ by 10 %. A quantile is the mean of its bucket, so its error is a few percent at most.
LOG_BUCKET_WIDTH = log(1.1)
MIN_LATENCY_SECONDS, MAX_LATENCY_SECONDS = 0.1, 7_200.0
# Keeps the last fifty deliveries of the last day, with their times rounded to the minute.
MAX_DELIVERIES, DELIVERY_WINDOW_SECONDS, MINUTE_SECONDS = 50, 86_400.0, 60.0
MIN_LATENCY_SAMPLES = 5
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]


# By bucket, and whether the orders succeeded: their number, and the sum of their seconds.
Buckets = dict[tuple[int, bool], tuple[int, float]]


class SlidingWindowCounter:
    """Counts events of the last `window_seconds`, to within one bucket."""

    def __init__(self, window_seconds: float, bucket_count: int) -> None:
        self._bucket_seconds = window_seconds / bucket_count
        self._buckets = [(-1, 0)] * bucket_count

    def add(self, now: float) -> None:
        epoch = floor(now / self._bucket_seconds)
        slot = epoch % len(self._buckets)
        slot_epoch, count = self._buckets[slot]
        self._buckets[slot] = (epoch, count + 1 if slot_epoch == epoch else 1)

    def count_recent(self, now: float) -> int:
        current_epoch = floor(now / self._bucket_seconds)
        return sum(
            count for epoch, count in self._buckets if current_epoch - len(self._buckets) < epoch <= current_epoch
        )

    def clear(self) -> None:
        self._buckets = [(-1, 0)] * len(self._buckets)


class LatencyStats(Struct, frozen=True, array_like=True):
    """The seconds within which half (p50) of `count` successful orders were done, and nine tenths (p90) and 99 % (p99)
    of all: with `late_count` orders that failed after a longer time than most successful ones need."""

    count: Count = 0
    p50: Seconds = 0.0
    late_count: Count = 0
    p90: Seconds = 0.0
    p99: Seconds = 0.0

    @property
    def total_count(self) -> int:
        return self.count + self.late_count


class ConformanceRate(Struct, frozen=True, array_like=True):
    """The share of `count` deliveries whose images matched the order."""

    count: Count = 0
    share: Annotated[float, Meta(ge=0, le=1)] = 0.0


class LatencyHistogram:
    """The latencies of the orders of the last 12 to 15 minutes, in windows of logarithmic buckets: of successful ones,
    and of those that failed late."""

    def __init__(self) -> None:
        self._windows: list[tuple[int, Buckets]] = [(-1, {})] * LATENCY_WINDOW_COUNT
        self._cached: tuple[int, LatencyStats] | None = None

    def add(self, seconds: float, now: float, *, is_success: bool = True) -> None:
        if not isfinite(seconds):
            return
        seconds = min(max(seconds, MIN_LATENCY_SECONDS), MAX_LATENCY_SECONDS)
        epoch = floor(now / LATENCY_WINDOW_SECONDS)
        slot = epoch % LATENCY_WINDOW_COUNT
        if self._windows[slot][0] != epoch:
            self._windows[slot] = (epoch, {})
        window, bucket = self._windows[slot][1], (floor(log(seconds) / LOG_BUCKET_WIDTH), is_success)
        count, total = window.get(bucket, (0, 0.0))
        window[bucket] = (count + 1, total + seconds)
        self._cached = None

    def get_stats(self, now: float) -> LatencyStats:
        epoch = floor(now / LATENCY_WINDOW_SECONDS)
        if self._cached is None or self._cached[0] != epoch:
            self._cached = (epoch, _compute_stats(self._sum_recent_buckets(epoch)))
        return self._cached[1]

    def _sum_recent_buckets(self, current_epoch: int) -> Buckets:
        merged: Buckets = {}
        for epoch, window in self._windows:
            if current_epoch - LATENCY_WINDOW_COUNT < epoch <= current_epoch:
                for bucket, (count, total) in window.items():
                    merged_count, merged_total = merged.get(bucket, (0, 0.0))
                    merged[bucket] = (merged_count + count, merged_total + total)
        return merged


def _compute_stats(buckets: Buckets) -> LatencyStats:
    successes = {bucket: counted for bucket, counted in buckets.items() if bucket[1]}
    count, total_count = _count_orders(successes), _count_orders(buckets)
    if not total_count:
        return LatencyStats()
    return LatencyStats(
        count,
        _estimate_quantile(successes, count, 0.5) if count else 0.0,
        total_count - count,
        _estimate_quantile(buckets, total_count, 0.9),
        _estimate_quantile(buckets, total_count, 0.99),
    )


def _count_orders(buckets: Buckets) -> int:
    return sum(count for count, _ in buckets.values())


def _estimate_quantile(buckets: Buckets, count: int, fraction: float) -> float:
    remaining = ceil(count * fraction)
    for bucket in sorted(buckets):
        counted, total = buckets[bucket]
        remaining -= counted
        if remaining <= 0:
            break
    return total / counted


class ConformanceWindow:
    """The last deliveries of one day. For each it keeps when it was ordered, and whether its images matched the
    order."""

    def __init__(self) -> None:
        self._deliveries: deque[tuple[float, bool]] = deque(maxlen=MAX_DELIVERIES)
        self._cached: tuple[float, ConformanceRate] | None = None

    def add(self, is_as_ordered: bool, sent_at: float) -> None:
        self._deliveries.append((sent_at, is_as_ordered))
        self._cached = None

    def get_rate(self, now: float, since: float = -inf) -> ConformanceRate:
        """Returns the rate of orders sent after `since` and within the last day."""
        oldest = max(floor(now / MINUTE_SECONDS) * MINUTE_SECONDS - DELIVERY_WINDOW_SECONDS, since)
        if self._cached is None or self._cached[0] != oldest:
            self._cached = (
                oldest,
                _compute_rate([is_as_ordered for sent_at, is_as_ordered in self._deliveries if sent_at >= oldest]),
            )
        return self._cached[1]


def _compute_rate(deliveries: Sequence[bool]) -> ConformanceRate:
    return ConformanceRate(len(deliveries), sum(deliveries) / len(deliveries)) if deliveries else ConformanceRate()


def merge_latency(replicas: Sequence[LatencyStats]) -> LatencyStats:
    """Merges the statistics of several replicas, weighted by their counts: the mean of the medians, and upper bounds of
    the other quantiles. A mean would hide that every order of one replica is slow."""
    total_count = sum(replica.total_count for replica in replicas)
    if not total_count:
        return LatencyStats()
    count = sum(replica.count for replica in replicas)
    return LatencyStats(
        count,
        sum(replica.count * replica.p50 for replica in replicas) / count if count else 0.0,
        total_count - count,
        _merge_quantile(replicas, total_count, 90),
        _merge_quantile(replicas, total_count, 99),
    )


def _merge_quantile(replicas: Sequence[LatencyStats], total_count: int, percent: int) -> float:
    """Returns the time within which so many percent of all orders were done, if nine tenths of each replica's took its
    p90, and the others its p99."""
    points = [(replica.p90, 9 * replica.total_count) for replica in replicas]
    points = sorted(points + [(replica.p99, replica.total_count) for replica in replicas])
    tenfold_sums = list(accumulate([10 * weight for _, weight in points]))
    return points[bisect_left(tenfold_sums, percent * total_count)][0]


def merge_conformance(replicas: Sequence[ConformanceRate]) -> ConformanceRate:
    count = sum(replica.count for replica in replicas)
    return (
        ConformanceRate(count, sum(replica.count * replica.share for replica in replicas) / count)
        if count
        else ConformanceRate()
    )
