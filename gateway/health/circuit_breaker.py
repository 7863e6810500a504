"""A circuit breaker for one account or one cell: closed, open, or half-open with one probe order at a time.

closed --too many failures--> open --time is up--> half-open --start_probe--> probing --success--> closed
                               ^                                                 |
                               +--------------- failure, twice as long ----------+

If the seller refused the account itself, no order is a probe: the breaker stays open until a free check of the account
closes it.

Times are those of the slewed wall clock, which never jumps and which replicas share. `sent_at` is when the order in
question was sent: an order that was sent before the breaker opened proves nothing about the reason, however late its
outcome arrives.
"""

from enum import IntEnum
from math import inf, isnan
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import astuple, replace

from gateway.timeouts_and_intervals import MAX_OPEN_SECONDS, HealthTiming, OpenDuration

# How much earlier than its probe an order may seem to be sent.
MAX_SEND_TIME_ERROR_SECONDS = 2.0
Moment = Annotated[float, Meta(ge=0, le=1e12)]
OpenSeconds = Annotated[float, Meta(ge=0, le=MAX_OPEN_SECONDS)]


def clamp_retry_after(retry_after: float | None, timing: HealthTiming) -> float:
    """Limits the Retry-After of a seller to the bounds of `timing`. Returns its default if the seller gave none.

    Some sellers send a whole day, or a time in the past.
    """
    if retry_after is None or isnan(retry_after):
        return timing.default_retry_after_seconds
    return min(max(retry_after, timing.min_retry_after_seconds), timing.max_retry_after_seconds)


class BreakerState(IntEnum):
    """State of a circuit breaker, as the next order finds it. The worst has the highest number."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Refusal(IntEnum):
    """Why a seller refuses an account, if only a check of the account can show that this is over. Of two replicas'
    trips, the higher reason counts."""

    NONE = 0
    NO_CREDIT = 1
    INVALID_KEY = 2


class Trip(Struct, frozen=True, array_like=True):
    """Since when and until when a breaker is open.

    `open_seconds`: for how long this time; `max_open_seconds`: at most after failed probes, 0 if it closes without a
    probe. `refusal`: the breaker stays open until a check passes, whatever `open_until` is.
    """

    tripped_at: Moment
    open_until: Moment
    open_seconds: OpenSeconds
    max_open_seconds: OpenSeconds
    refusal: Refusal = Refusal.NONE


class BreakerSnapshot(Struct, frozen=True, array_like=True):
    """A replica's own observations, as it shares them: its trip while the breaker is open, or a refusal that it learned
    of; and when the last successful order was sent."""

    trip: Trip | None = None
    success_sent_at: Moment = 0.0


class _Probe(NamedTuple):
    """`permit` is compared by identity."""

    started_at: float
    permit: object


class CircuitBreaker:
    """The circuit breaker. Closed: orders pass. Open: orders are blocked. Half-open: one probe order decides."""

    def __init__(self, probe_timeout_seconds: float) -> None:
        self._probe_timeout_seconds = probe_timeout_seconds
        self._trip: Trip | None = None
        # Whether another replica observed the trip. Only own observations are shared, so that a restart of all replicas
        # one by one forgets them; and refusals, which a check ends.
        self._is_remote_trip = False
        self._probe: _Probe | None = None
        self._success_sent_at = self._check_passed_at = -inf
        # The sending time of the order whose success last closed the breaker.
        self.recovery_sent_at = -inf

    # --- state

    def get_trip(self, now: float) -> Trip | None:
        """Returns the trip while the breaker is open or half-open. Closes it first if its time is up and it needs no
        probe."""
        if self._trip is not None and not self._trip.max_open_seconds and now >= self._trip.open_until:
            self._close()
        return self._trip

    def get_state(self, now: float) -> BreakerState:
        """Returns the state for the next order. While a probe is in flight, that is open: no other order passes."""
        if self.get_trip(now) is None:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if self.allows_request(now) else BreakerState.OPEN

    def get_refusal(self, now: float) -> Refusal:
        """Returns why only a check can close the breaker; NONE if it is closed, or if a probe can close it."""
        trip = self.get_trip(now)
        return trip.refusal if trip else Refusal.NONE

    def is_half_open(self, now: float) -> bool:
        """Returns whether the open time is over. Then the next probe, or the one in flight, decides."""
        trip = self.get_trip(now)
        return trip is not None and not trip.refusal and now >= trip.open_until

    def allows_request(self, now: float) -> bool:
        """Returns whether one more order may be sent: any order if closed, one probe at a time if half-open."""
        if self.get_trip(now) is None:
            return True
        has_free_probe = self._probe is None or now >= self._probe.started_at + self._probe_timeout_seconds
        return self.is_half_open(now) and has_free_probe

    def is_probing(self, now: float) -> bool:
        """Returns whether the breaker is half-open and its probe is in flight."""
        return self.is_half_open(now) and not self.allows_request(now)

    @property
    def has_doubtful_check(self) -> bool:
        """Whether a check closed the breaker, and no order has succeeded since."""
        return self._check_passed_at > self._success_sent_at

    # --- outcomes

    def start_probe(self, permit: object, now: float) -> None:
        """Records that an order is about to be sent, after `allows_request` permitted it. Unless the breaker is closed,
        this order is the probe."""
        if self.get_trip(now):
            self._probe = _Probe(now, permit)

    def cancel_probe(self, permit: object) -> None:
        """Records that the order was not sent. If it was the probe, another order may become the probe."""
        if self._probe is not None and self._probe.permit is permit:
            self._probe = None

    def record_success(self, sent_at: float) -> None:
        self._success_sent_at = max(self._success_sent_at, sent_at)
        if self._trip is not None and not self._trip.refusal and sent_at >= self._trip.tripped_at:
            self.recovery_sent_at = sent_at
            self._close()

    def record_passed_check(self, sent_at: float) -> None:
        """Records a check of the account that was sent at this time and passed. Closes the breaker if the account was
        refused before."""
        self._check_passed_at = max(self._check_passed_at, sent_at)
        if self._trip is not None and self._trip.refusal and sent_at >= self._trip.tripped_at:
            self._close()

    def record_failure(
        self, duration: OpenDuration, sent_at: float, now: float, refusal: Refusal = Refusal.NONE
    ) -> None:
        """Opens a closed breaker; after a failed probe, opens it for twice as long.

        `refusal`: it stays open until a check passes. Further failures change nothing then.
        """
        trip = self.get_trip(now)
        if trip is not None and (trip.refusal or sent_at < trip.tripped_at):
            return
        if trip is None or refusal or duration.max_seconds > trip.max_open_seconds:
            self._open(now, duration.initial_seconds, duration.max_seconds, refusal)
        elif now >= trip.open_until:
            doubled = max(trip.open_seconds * 2, duration.initial_seconds)
            self._open(now, min(doubled, trip.max_open_seconds), trip.max_open_seconds)

    def back_off(self, seconds: float, now: float) -> None:
        """Opens the breaker for the given time, after which it closes without a probe.

        A breaker that is open for a worse reason keeps that reason.
        """
        trip = self.get_trip(now)
        if trip is None:
            self._open(now, seconds, 0.0)
        elif now + seconds > trip.open_until:
            self._trip, self._is_remote_trip = replace(trip, open_until=now + seconds), False
        self._probe = None

    def record_inconclusive(self, sent_at: float) -> None:
        """Records an outcome that proves nothing. If the order was the probe, another order may become the probe."""
        if self._probe is not None and sent_at + MAX_SEND_TIME_ERROR_SECONDS >= self._probe.started_at:
            self._probe = None

    def _open(self, now: float, open_seconds: float, max_open_seconds: float, refusal: Refusal = Refusal.NONE) -> None:
        self._trip = Trip(now, now + open_seconds, open_seconds, max_open_seconds, refusal)
        self._is_remote_trip, self._probe = False, None

    def _close(self) -> None:
        self._trip = self._probe = None

    # --- replicas

    def to_snapshot(self, now: float) -> BreakerSnapshot:
        """Returns what this replica observed itself, and a refusal that it learned of: its observer may have stopped,
        and each replica without it sends an order in vain."""
        trip = self.get_trip(now)
        if trip and self._is_remote_trip and not trip.refusal:
            trip = None
        is_recent = now - self._success_sent_at <= MAX_OPEN_SECONDS
        return BreakerSnapshot(trip, max(0.0, self._success_sent_at) if is_recent else 0.0)

    def merge_snapshot(self, snapshot: BreakerSnapshot, now: float, clock_lead: float) -> None:
        """Merges another replica's observations: the later success closes the breaker, the later trip opens it. After a
        refusal, `record_passed_check` has to be called with the checks of the other replica, too.

        `clock_lead`: seconds by which the other replica's clock is known to be ahead of this one's.
        """
        self.record_success(min(snapshot.success_sent_at - clock_lead, now))
        if snapshot.trip is None:
            return
        proven_at = self._check_passed_at if snapshot.trip.refusal else self._success_sent_at
        if snapshot.trip.tripped_at - clock_lead <= proven_at:
            return
        # The limits guard against a damaged snapshot. The order of merging makes no difference.
        trip = replace(
            snapshot.trip,
            tripped_at=min(snapshot.trip.tripped_at - clock_lead, now),
            open_until=min(snapshot.trip.open_until - clock_lead, now + MAX_OPEN_SECONDS),
        )
        merged = Trip(*map(max, astuple(trip), astuple(self._trip or trip)))
        if merged != self._trip:
            self._trip, self._is_remote_trip = merged, True
