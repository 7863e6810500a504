"""When to ask about an order: near the time it is expected, then ever more seldom, or when the seller says."""

FIRST_POLL_SHARE = 0.8
POLL_SHARE = 0.12
MIN_DELAY_SECONDS, MAX_DELAY_SECONDS = 0.2, 10.0
BACKOFF_FACTOR = 1.3
MAX_RETRY_AFTER_SECONDS = 60.0


class PollSchedule:
    """`expected_seconds`: seconds after which half of such orders are done; `age_seconds`: seconds since this one was placed."""

    def __init__(self, expected_seconds: float, age_seconds: float = 0.0) -> None:
        # Another replica's clock may be ahead of ours.
        age_seconds = max(age_seconds, 0.0)
        self._delay = min(max(expected_seconds * POLL_SHARE, MIN_DELAY_SECONDS), MAX_DELAY_SECONDS)
        self._first_delay = (
            max(expected_seconds * FIRST_POLL_SHARE - age_seconds, 0.0) if age_seconds < expected_seconds else 0.0
        )
        self._is_first = True

    def next_delay(self, retry_after: float | None = None) -> float:
        """Seconds until the next question. `retry_after` is the seller's own, clamped to what makes sense."""
        if self._is_first:
            self._is_first = False
            return max(self._first_delay, min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))
        delay = self._delay
        self._delay = min(self._delay * BACKOFF_FACTOR, MAX_DELAY_SECONDS)
        return delay if retry_after is None else min(max(retry_after, MIN_DELAY_SECONDS), MAX_RETRY_AFTER_SECONDS)
