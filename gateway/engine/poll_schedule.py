"""When to poll an order, and when to stop.

The first poll is due near the order's expected end, later ones with exponential backoff, or when the seller asks for
them.
"""

from gateway.timeouts_and_intervals import PollTiming
from providers.faults import ChargeStatus, FaultKind, PollPolicy
from providers.order_status import InProgress, NoAnswer, Progress

FIRST_POLL_SHARE = 0.8
POLL_SHARE = 0.12
BACKOFF_FACTOR = 1.3
# An order is abandoned after this many polls in a row without a reliable answer.
MAX_UNANSWERED_POLLS = 3


class PollSchedule:
    """The delays between polls of one order.

    `expected_seconds`: the median duration of such orders; `age_seconds`: the time since this one was sent.
    """

    def __init__(self, expected_seconds: float, age_seconds: float, timing: PollTiming) -> None:
        self._timing = timing
        # The clock of the replica that sent the order may be ahead.
        age_seconds = max(age_seconds, 0.0)
        self._delay = min(max(expected_seconds * POLL_SHARE, timing.min_interval_seconds), timing.max_interval_seconds)
        self._first_delay = (
            max(expected_seconds * FIRST_POLL_SHARE - age_seconds, 0.0) if age_seconds < expected_seconds else 0.0
        )
        self._is_first = True

    def next_delay(self, retry_after: float | None = None) -> float:
        """Returns the seconds until the next poll. `retry_after`: the Retry-After of the seller, which is clamped."""
        if self._is_first:
            self._is_first = False
            return max(self._first_delay, min(retry_after or 0.0, self._timing.max_retry_after_seconds))
        delay, timing = self._delay, self._timing
        self._delay = min(self._delay * BACKOFF_FACTOR, timing.max_interval_seconds)
        if retry_after is None:
            return delay
        return min(max(retry_after, timing.min_interval_seconds), timing.max_retry_after_seconds)


class UnansweredPolls:
    """Counts consecutive polls of one order without a reliable answer."""

    def __init__(self, timing: PollTiming) -> None:
        self._grace_seconds = timing.missing_order_grace_seconds
        self._count = 0
        self._missing_since: float | None = None

    def record_poll(self, progress: Progress, asked_at: float) -> FaultKind | None:
        """Records one poll, sent at `asked_at`. Returns the fault with which to abandon the order; None to continue."""
        if not isinstance(progress, NoAnswer):
            self._count, self._missing_since = 0, None
            return None
        kind = progress.fault.kind
        match progress.fault.verdict.poll_policy:
            case PollPolicy.RETRY_THREE_TIMES:
                self._count += 1
                return kind if self._count >= MAX_UNANSWERED_POLLS else None
            case PollPolicy.GRACE_PERIOD:
                self._missing_since = asked_at if self._missing_since is None else self._missing_since
                # The order has a ticket, so it did exist and may have been charged, although it is not found now.
                return FaultKind.RESPONSE_LOST if asked_at - self._missing_since >= self._grace_seconds else None
            case PollPolicy.ACCEPT_AS_FINAL:
                return (
                    kind
                    if progress.fault.verdict.charge_status is not ChargeStatus.NOT_CHARGED
                    else FaultKind.RESPONSE_LOST
                )
            case PollPolicy.RETRY:
                return None


def get_retry_after(progress: Progress) -> float | None:
    if isinstance(progress, InProgress):
        return progress.retry_after
    return progress.fault.retry_after if isinstance(progress, NoAnswer) else None
