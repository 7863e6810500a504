"""Retry budget: limits retries to a share of the first orders, so that failures do not multiply the orders."""

from gateway.health.rolling_stats import SlidingWindowCounter
from gateway.timeouts_and_intervals import HealthTiming

MAX_RETRY_SHARE = 0.1
RETRY_WINDOW_BUCKETS = 60


class RetryBudget:
    """The retry budget. It counts first orders, and retries: orders placed because others failed."""

    def __init__(self, timing: HealthTiming = HealthTiming()) -> None:
        self._min_retries = timing.min_retries
        self._first_orders = SlidingWindowCounter(timing.retry_window_seconds, RETRY_WINDOW_BUCKETS)
        self._retries = SlidingWindowCounter(timing.retry_window_seconds, RETRY_WINDOW_BUCKETS)

    def record_first_order(self, now: float) -> None:
        self._first_orders.add(now)

    def count_available(self, now: float) -> int:
        """Returns how many retries are left: they may be a tenth of the last minute's first orders, and always
        three."""
        allowed = max(self._min_retries, int(self._first_orders.count_recent(now) * MAX_RETRY_SHARE))
        return max(0, allowed - self._retries.count_recent(now))

    def can_retry(self, now: float) -> bool:
        return self.count_available(now) > 0

    def record_retry(self, now: float) -> None:
        self._retries.add(now)
