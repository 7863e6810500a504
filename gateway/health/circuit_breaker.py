"""A circuit breaker for one account or one cell: closed, open, or half-open with one probe order at a time.

closed --too many failures--> open --time is up--> half-open --start_probe--> probing --success--> closed
                               ^                                                 |
                               +--------------- failure, twice as long ----------+

Times are this process's monotonic seconds. `sent_at` is when the order in question was sent: an order that was sent
before the breaker opened proves nothing about the reason, however late its outcome arrives.
"""

from math import inf, isnan
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from gateway.timing import MAX_OPEN_SECONDS, HealthTiming, OpenDuration

# How far two replicas may differ about the time of the same event: one snapshot interval and some delay.
SYNC_DELAY_SECONDS = 2.0
SecondsAgo = Annotated[float, Meta(ge=0, le=1e12)]
OpenSeconds = Annotated[float, Meta(ge=0, le=MAX_OPEN_SECONDS)]


def clamp_retry_after(retry_after: float | None, timing: HealthTiming) -> float:
    """Limits the Retry-After of a seller to the bounds of `timing`. Returns its default if the seller gave none.

    Some sellers send a whole day, or a time in the past.
    """
    if retry_after is None or isnan(retry_after):
        return timing.default_retry_after_seconds
    return min(max(retry_after, timing.min_retry_after_seconds), timing.max_retry_after_seconds)


class BreakerSnapshot(Struct, frozen=True, array_like=True):
    """The state of a breaker as one replica publishes it. Times are seconds ago or seconds left, since replicas do not
    share a clock."""

    tripped_ago: SecondsAgo | None = None
    open_seconds_left: OpenSeconds = 0.0
    open_seconds: OpenSeconds = 0.0
    max_open_seconds: OpenSeconds = 0.0
    success_ago: SecondsAgo | None = None


EMPTY_BREAKER_SNAPSHOT = BreakerSnapshot()


class _Probe(NamedTuple):
    """`permit` is compared by identity."""

    started_at: float
    permit: object


class CircuitBreaker:
    """The circuit breaker. Closed: orders pass. Open: orders are blocked. Half-open: one probe order decides."""

    def __init__(self, probe_timeout_seconds: float) -> None:
        self._probe_timeout_seconds = probe_timeout_seconds
        self._tripped_at: float | None = None
        self._open_until = -inf
        self._open_seconds = 0.0
        self._max_open_seconds = 0.0
        self._probe: _Probe | None = None
        self._success_sent_at = -inf
        self._remote_success_sent_at = -inf
        # The sending time of the order whose success last closed the breaker.
        self.recovery_sent_at = -inf
        self._tripped_by_replica: str | None = None

    # --- state

    def is_tripped(self, now: float) -> bool:
        """Returns whether the breaker is open or half-open. Closes it first if its time is up and it needs no probe."""
        if self._tripped_at is not None and not self._max_open_seconds and now >= self._open_until:
            self._close()
        return self._tripped_at is not None

    def is_half_open(self, now: float) -> bool:
        """Returns whether the open time is over. Then the next probe, or the one in flight, decides."""
        return self.is_tripped(now) and now >= self._open_until

    def allows_request(self, now: float) -> bool:
        """Returns whether one more order may be sent: any order if closed, one probe at a time if half-open."""
        if not self.is_tripped(now):
            return True
        return now >= self._open_until and (
            self._probe is None or now >= self._probe.started_at + self._probe_timeout_seconds
        )

    def is_probing(self, now: float) -> bool:
        """Returns whether the breaker is half-open and its probe is in flight."""
        return self.is_tripped(now) and now >= self._open_until and not self.allows_request(now)

    # --- outcomes

    def start_probe(self, permit: object, now: float) -> None:
        """Records that an order is about to be sent, after `allows_request` permitted it. Unless the breaker is closed,
        this order is the probe."""
        if self.is_tripped(now):
            self._probe = _Probe(now, permit)

    def cancel_probe(self, permit: object) -> None:
        """Records that the order was not sent. If it was the probe, another order may become the probe."""
        if self._probe is not None and self._probe.permit is permit:
            self._probe = None

    def record_success(self, sent_at: float) -> None:
        self._success_sent_at = max(self._success_sent_at, sent_at)
        if self._tripped_at is not None and sent_at >= self._tripped_at:
            self._close_after_success(sent_at)

    def record_failure(self, duration: OpenDuration, sent_at: float, now: float) -> None:
        """Opens a closed breaker; after a failed probe, opens it for twice as long."""
        if not self.is_tripped(now):
            self._trip(now, duration.initial_seconds, duration.max_seconds)
        elif self._tripped_at is None or sent_at < self._tripped_at:
            return
        elif duration.max_seconds > self._max_open_seconds:
            self._trip(now, duration.initial_seconds, duration.max_seconds)
        elif now >= self._open_until:
            self._trip(
                now,
                min(max(self._open_seconds * 2, duration.initial_seconds), self._max_open_seconds),
                self._max_open_seconds,
            )

    def back_off(self, seconds: float, now: float) -> None:
        """Opens the breaker for the given time, after which it closes without a probe.

        A breaker that is open for a worse reason keeps that reason.
        """
        if not self.is_tripped(now):
            self._trip(now, seconds, 0.0)
        if now + seconds > self._open_until:
            self._open_until, self._tripped_by_replica = now + seconds, None
        self._probe = None

    def record_inconclusive(self, sent_at: float) -> None:
        """Records an outcome that proves nothing. If the order was the probe, another order may become the probe."""
        if self._probe is not None and sent_at + SYNC_DELAY_SECONDS >= self._probe.started_at:
            self._probe = None

    def _close_after_success(self, sent_at: float) -> None:
        self.recovery_sent_at = sent_at
        self._close()

    def _close(self) -> None:
        self._tripped_at, self._probe, self._tripped_by_replica = None, None, None
        self._open_until, self._open_seconds, self._max_open_seconds = -inf, 0.0, 0.0

    def _trip(self, now: float, open_seconds: float, max_open_seconds: float) -> None:
        self._tripped_at, self._probe, self._tripped_by_replica = now, None, None
        self._open_until, self._open_seconds, self._max_open_seconds = (
            now + open_seconds,
            open_seconds,
            max_open_seconds,
        )

    # --- replicas

    def to_snapshot(self, now: float) -> BreakerSnapshot:
        """Returns what this replica observed itself. Observations of other replicas are not included: they publish
        their own."""
        success_ago = (
            _seconds_since(self._success_sent_at, now) if now - self._success_sent_at <= MAX_OPEN_SECONDS else None
        )
        if not self.is_tripped(now) or self._tripped_at is None or self._tripped_by_replica is not None:
            return BreakerSnapshot(success_ago=success_ago)
        open_seconds_left = min(max(0.0, self._open_until - now), MAX_OPEN_SECONDS)
        return BreakerSnapshot(
            _seconds_since(self._tripped_at, now),
            open_seconds_left,
            self._open_seconds,
            self._max_open_seconds,
            success_ago,
        )

    def merge_snapshot(self, snapshot: BreakerSnapshot, replica: str, taken_at: float) -> None:
        """Merges another replica's snapshot. In doubt the breaker stays open.

        `taken_at`: when the snapshot was taken, by this process's clock; rather too late than too early.
        """
        if snapshot.success_ago is not None:
            self._merge_success(taken_at - snapshot.success_ago - SYNC_DELAY_SECONDS)
        if snapshot.tripped_ago is not None:
            self._merge_trip(snapshot, taken_at - snapshot.tripped_ago, replica, taken_at)

    def _merge_success(self, sent_at: float) -> None:
        self._remote_success_sent_at = max(self._remote_success_sent_at, sent_at)
        if self._tripped_at is not None and sent_at > self._tripped_at:
            self._close_after_success(sent_at)

    def _merge_trip(self, snapshot: BreakerSnapshot, tripped_at: float, replica: str, taken_at: float) -> None:
        # If the breaker is half-open there, it is half-open here, too. This must not look like a longer open time.
        open_until = taken_at + snapshot.open_seconds_left if snapshot.open_seconds_left else tripped_at
        if tripped_at <= max(self._success_sent_at, self._remote_success_sent_at):
            return
        if (
            self._tripped_at is not None
            and max(tripped_at - self._tripped_at, open_until - self._open_until) <= SYNC_DELAY_SECONDS
        ):
            return
        # This applies even if this replica opened the breaker itself. If both replicas published the longer time, both
        # would lengthen it without end.
        self._tripped_by_replica = replica
        self._tripped_at = tripped_at if self._tripped_at is None else max(self._tripped_at, tripped_at)
        self._open_until = max(self._open_until, open_until)
        self._open_seconds, self._max_open_seconds = (
            max(self._open_seconds, snapshot.open_seconds),
            max(self._max_open_seconds, snapshot.max_open_seconds),
        )

    def drop_replica(self, replica: str, now: float) -> None:
        """Makes the breaker half-open now if only the replica that went silent kept it open."""
        if self._tripped_by_replica == replica:
            self._open_until = min(self._open_until, now)


def _seconds_since(moment: float, now: float) -> float:
    return max(0.0, now - moment)
