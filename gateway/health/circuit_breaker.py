"""Whether anything is ordered at an account, or of a cell: open, shut for a while, or due for one trial order.

open --too much went wrong--> shut --time--> due --may_try--> on trial --success--> open
                                ^                                 |
                                +-------failure, twice as long----+

Times are this process's monotonic seconds. `began` is when the order in question was sent: one that was sent before
the gate shut says nothing about what shut it, however late its outcome comes.
"""

from math import inf, isnan
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

# Nobody waits longer for the outcome of a trial that never comes: another order may try then.
PROBE_TIMEOUT_SECONDS = 420.0
# By how much two replicas may differ about when the same thing happened: one exchange, and some delay.
SYNC_DELAY_SECONDS = 2.0
MAX_OPEN_SECONDS = 21_600.0
SecondsAgo = Annotated[float, Meta(ge=0, le=1e12)]
OpenSeconds = Annotated[float, Meta(ge=0, le=MAX_OPEN_SECONDS)]
MIN_RETRY_AFTER_SECONDS, DEFAULT_RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS = 1.0, 10.0, 300.0


def clamp_retry_after(retry_after: float | None) -> float:
    """What a seller asks for, within reason: some name a day, or a moment that has passed."""
    if retry_after is None or isnan(retry_after):
        return DEFAULT_RETRY_AFTER_SECONDS
    return min(max(retry_after, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)


class OpenDuration(Struct, frozen=True):
    """How long a gate shuts at first, and after many failed trials. Nothing at most: it opens without a trial."""

    initial_seconds: float
    max_seconds: float


class BreakerSnapshot(Struct, frozen=True, array_like=True):
    """A gate as one replica tells the others of it: in seconds ago and seconds left, which need no common clock."""

    tripped_ago: SecondsAgo | None = None
    open_seconds_left: OpenSeconds = 0.0
    open_seconds: OpenSeconds = 0.0
    max_open_seconds: OpenSeconds = 0.0
    success_ago: SecondsAgo | None = None


EMPTY_BREAKER_SNAPSHOT = BreakerSnapshot()


class _Probe(NamedTuple):
    """`permit` is told from others by its identity."""

    started_at: float
    permit: object


class CircuitBreaker:
    def __init__(self) -> None:
        self._tripped_at: float | None = None
        self._open_until = -inf
        self._open_seconds = 0.0
        self._max_open_seconds = 0.0
        self._probe: _Probe | None = None
        self._success_sent_at = -inf
        self._remote_success_sent_at = -inf
        # When the order was sent whose success opened the gate last.
        self.recovery_sent_at = -inf
        self._tripped_by_replica: str | None = None

    # --- asking

    def is_tripped(self, now: float) -> bool:
        """Shut, due for a trial or on trial: not simply open."""
        if self._tripped_at is not None and not self._max_open_seconds and now >= self._open_until:
            self._close()
        return self._tripped_at is not None

    def is_half_open(self, now: float) -> bool:
        """Shut once, and its time is over: the next order, or the one that is out, decides."""
        return self.is_tripped(now) and now >= self._open_until

    def allows_request(self, now: float) -> bool:
        """Whether one more order may go: any if it is open, one at a time if it is due for a trial."""
        if not self.is_tripped(now):
            return True
        return now >= self._open_until and (
            self._probe is None or now >= self._probe.started_at + PROBE_TIMEOUT_SECONDS
        )

    def is_probing(self, now: float) -> bool:
        """Due for a trial, and the order that decides is on its way."""
        return self.is_tripped(now) and now >= self._open_until and not self.allows_request(now)

    # --- what happens

    def start_probe(self, permit: object, now: float) -> None:
        """An order goes that `allows_request` has let through."""
        if self.is_tripped(now):
            self._probe = _Probe(now, permit)

    def cancel_probe(self, permit: object) -> None:
        """That order did not go after all. If it was the trial, another may go."""
        if self._probe is not None and self._probe.permit is permit:
            self._probe = None

    def record_success(self, sent_at: float) -> None:
        self._success_sent_at = max(self._success_sent_at, sent_at)
        if self._tripped_at is not None and sent_at >= self._tripped_at:
            self._close_after_success(sent_at)

    def record_failure(self, duration: OpenDuration, sent_at: float, now: float) -> None:
        """Something happened for which a gate shuts."""
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
        """Opens by itself when the time is over, unless it was shut for something worse."""
        if not self.is_tripped(now):
            self._trip(now, seconds, 0.0)
        if now + seconds > self._open_until:
            self._open_until, self._tripped_by_replica = now + seconds, None
        self._probe = None

    def record_inconclusive(self, sent_at: float) -> None:
        """An order ended in a way that says nothing about this gate. If it was the trial, another may go."""
        if self._probe is not None and sent_at + SYNC_DELAY_SECONDS >= self._probe.started_at:
            self._probe = None

    def reset(self, now: float) -> None:
        """What it was shut for has been mended by hand."""
        self._success_sent_at = now
        self._close()

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
        """What was seen here. What others told is theirs to tell, or it would go round for ever."""
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
        """`then`: when it was told, by our clock, a little late rather than early. In doubt the gate stays shut."""
        if snapshot.success_ago is not None:
            self._merge_success(taken_at - snapshot.success_ago - SYNC_DELAY_SECONDS)
        if snapshot.tripped_ago is not None:
            self._merge_trip(snapshot, taken_at - snapshot.tripped_ago, replica, taken_at)

    def _merge_success(self, sent_at: float) -> None:
        self._remote_success_sent_at = max(self._remote_success_sent_at, sent_at)
        if self._tripped_at is not None and sent_at > self._tripped_at:
            self._close_after_success(sent_at)

    def _merge_trip(self, snapshot: BreakerSnapshot, tripped_at: float, replica: str, taken_at: float) -> None:
        # One that is due for a trial there is due here: that it still is must not look like a longer pause.
        open_until = taken_at + snapshot.open_seconds_left if snapshot.open_seconds_left else tripped_at
        if tripped_at <= max(self._success_sent_at, self._remote_success_sent_at):
            return
        if (
            self._tripped_at is not None
            and max(tripped_at - self._tripped_at, open_until - self._open_until) <= SYNC_DELAY_SECONDS
        ):
            return
        # Even if it was shut here as well: were the longer pause told on as our own, each would lengthen the other's.
        self._tripped_by_replica = replica
        self._tripped_at = tripped_at if self._tripped_at is None else max(self._tripped_at, tripped_at)
        self._open_until = max(self._open_until, open_until)
        self._open_seconds, self._max_open_seconds = (
            max(self._open_seconds, snapshot.open_seconds),
            max(self._max_open_seconds, snapshot.max_open_seconds),
        )

    def drop_replica(self, replica: str, now: float) -> None:
        """That replica is silent: what it told is worth a trial at once, and no more waiting."""
        if self._tripped_by_replica == replica:
            self._open_until = min(self._open_until, now)


def _seconds_since(moment: float, now: float) -> float:
    return max(0.0, now - moment)
