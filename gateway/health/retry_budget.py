"""Retry budget: limits retries to a share of the first orders, so that failures do not multiply the orders."""

from gateway.health.stats import SlidingWindowCounter

MAX_RETRY_SHARE = 0.1
MIN_RETRIES = 3
RETRY_WINDOW_SECONDS, RETRY_WINDOW_BUCKETS = 60.0, 60


class RetryBudget:
    """The retry budget. It counts first orders, and retries: orders placed because others failed."""

    def __init__(self) -> None:
        self._first_orders = SlidingWindowCounter(RETRY_WINDOW_SECONDS, RETRY_WINDOW_BUCKETS)
        self._retries = SlidingWindowCounter(RETRY_WINDOW_SECONDS, RETRY_WINDOW_BUCKETS)

    def record_first_order(self, now: float) -> None:
        self._first_orders.add(now)

    def can_retry(self, now: float) -> bool:
        """Returns whether one more retry is allowed: retries may be a tenth of the last minute's first orders, and
        always three."""
        allowed = max(MIN_RETRIES, int(self._first_orders.count(now) * MAX_RETRY_SHARE))
        return self._retries.count(now) < allowed

    def record_retry(self, now: float) -> None:
        self._retries.add(now)
