"""Recent outcomes of one account or one cell, and the circuit breakers that they drive."""

from math import inf

from msgspec.structs import replace

from gateway.health.account_check import REFUSALS_BY_FAULT, AccountCheck
from gateway.health.charged_prices import ChargedPrices
from gateway.health.circuit_breaker import CircuitBreaker, Refusal, clamp_retry_after
from gateway.health.health_snapshot import AccountSnapshot
from gateway.health.rolling_stats import (
    ConformanceRate,
    ConformanceWindow,
    LatencyHistogram,
    SlidingWindowCounter,
    merge_conformance,
)
from gateway.routing.signals import is_below_conformance
from gateway.timeouts_and_intervals import HealthTiming
from providers.faults import FaultKind

REFUSAL_FAULTS = frozenset({FaultKind.INVALID_KEY, FaultKind.NO_CREDIT, FaultKind.FORBIDDEN})
MAX_CONSECUTIVE_FAILURES = 5
# Longer than an order takes, so that one window holds several outcomes.
WINDOW_SECONDS, WINDOW_BUCKETS = 120.0, 12
MIN_OUTCOMES = 10


class AccountHealth:
    """Consecutive failures of an account, its circuit breaker, and `last_check`: the latest check of any replica."""

    def __init__(self, timing: HealthTiming) -> None:
        self._timing = timing
        self.breaker = CircuitBreaker(timing.probe_timeout_seconds)
        self._consecutive_failures = 0
        # A digest of how the account is reached; empty while it is not configured.
        self.access_digest = ""
        self._access_changed_at = -inf
        self.last_check: AccountCheck | None = None

    def set_access(self, access_digest: str, now: float) -> None:
        """Sets how the account is reached. A change counts as a success: the failures of the former access prove
        nothing about the new one."""
        if self.access_digest not in ("", access_digest):
            self._access_changed_at = now
            self.record_success(now)
            self.breaker.record_passed_check(now)
            # Whether the seller has such a query, and shows the balance, does not depend on the key.
            self.last_check = self.last_check and replace(self.last_check, checked_at=0.0)
        self.access_digest = access_digest

    def record_success(self, sent_at: float) -> None:
        self._consecutive_failures = 0
        self.breaker.record_success(sent_at)

    def record_failure(self, fault: FaultKind, retry_after: float | None, sent_at: float, now: float) -> None:
        if sent_at < self._access_changed_at:
            self.breaker.record_inconclusive(sent_at)
        elif fault is FaultKind.RATE_LIMITED:
            self.breaker.back_off(clamp_retry_after(retry_after, self._timing), now)
        elif fault in REFUSAL_FAULTS:
            self.breaker.record_failure(self._timing.refused, sent_at, now, self._select_refusal(fault))
        else:
            self._record_outage(sent_at, now)

    def record_refusal(self, fault: FaultKind, now: float) -> None:
        """Records a refusal of another request than an order."""
        if (refusal := self._select_refusal(fault)) is not Refusal.NONE:
            self.breaker.record_failure(self._timing.refused, now, now, refusal)

    def record_check(self, check: AccountCheck, now: float) -> None:
        """Records a check of this replica or another one. After a refusal, only a check closes the breaker."""
        if self.last_check is None or check.checked_at > self.last_check.checked_at:
            self.last_check = check
        self._apply_check(check, now)

    def to_snapshot(self, now: float) -> AccountSnapshot:
        """Returns what other replicas learn. The latest check of any replica is passed on, like a refusal: so it ends
        the refusal everywhere, also if the replica that made it has stopped."""
        has_check = self.last_check is not None and self.last_check.checked_at > 0
        return AccountSnapshot(self.breaker.to_snapshot(now), self.last_check if has_check else None)

    def merge_snapshot(self, snapshot: AccountSnapshot, now: float, clock_lead: float) -> None:
        """Merges the observations of another replica. A refusal from before the latest check that ends it is over."""
        self.breaker.merge_snapshot(snapshot.breaker, now, clock_lead)
        if check := snapshot.check:
            self.record_check(replace(check, checked_at=min(check.checked_at - clock_lead, now)), now)
        if self.last_check:
            self._apply_check(self.last_check, now)

    def _apply_check(self, check: AccountCheck, now: float) -> None:
        trip = self.breaker.get_trip(now)
        if trip and trip.refusal and check.checked_at >= trip.tripped_at and check.ends(trip.refusal):
            self.breaker.record_passed_check(check.checked_at)

    def _select_refusal(self, fault: FaultKind) -> Refusal:
        """Returns what a check has to show before the next order. NONE if no check can show it: then a probe order
        does, as after an outage. A check that passed just before this refusal can not, either."""
        refusal = REFUSALS_BY_FAULT.get(fault, Refusal.NONE)
        can_show = (
            self.last_check is not None and self.last_check.can_show(refusal) and not self.breaker.has_doubtful_check
        )
        return refusal if can_show else Refusal.NONE

    def _record_outage(self, sent_at: float, now: float) -> None:
        if not self.breaker.get_trip(now):
            self._consecutive_failures += 1
        if self.breaker.is_half_open(now) or self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES:
            self._consecutive_failures = 0
            self.breaker.record_failure(self._timing.outage, sent_at, now)


class CellHealth:
    """Statistics of a cell of one seller's model, and its two circuit breakers.

    `fidelity_breaker` is open while images differ from what was ordered. It blocks no order: routing ranks such a cell
    after the cells that deliver what was ordered.
    """

    def __init__(self, timing: HealthTiming) -> None:
        self._timing = timing
        self.breaker = CircuitBreaker(timing.probe_timeout_seconds)
        self.fidelity_breaker = CircuitBreaker(timing.probe_timeout_seconds)
        self.latencies = LatencyHistogram()
        self.conformance = ConformanceWindow()
        self.charged_prices = ChargedPrices()
        self._consecutive_failures = 0
        self._outcomes = SlidingWindowCounter(WINDOW_SECONDS, WINDOW_BUCKETS)
        self._failures = SlidingWindowCounter(WINDOW_SECONDS, WINDOW_BUCKETS)

    def record_success(self, sent_at: float, now: float) -> None:
        self._consecutive_failures = 0
        if not self.breaker.get_trip(now):
            self._outcomes.add(now)
        self.breaker.record_success(sent_at)

    def record_conforming_delivery(self, sent_at: float) -> None:
        self.conformance.add(True, sent_at)
        self.fidelity_breaker.record_success(sent_at)

    def record_unfaithful_delivery(self, replica_rate: ConformanceRate, sent_at: float, now: float) -> None:
        """Records images that differ from the order. A single delivery does not open a closed breaker, but it fails a
        probe.

        `replica_rate`: the deliveries that other replicas counted.
        """
        self.conformance.add(False, sent_at)
        merged_rate = merge_conformance((self.get_conformance_rate(now), replica_rate))
        if self.fidelity_breaker.get_trip(now) or is_below_conformance(merged_rate.count, merged_rate.share):
            self.fidelity_breaker.record_failure(self._timing.unfaithful, sent_at, now)

    def get_conformance_rate(self, now: float) -> ConformanceRate:
        """Returns the rate of deliveries that match their order. Counts orders sent since the last successful probe."""
        return self.conformance.get_rate(now, since=self.fidelity_breaker.recovery_sent_at)

    def record_late_failure(self, fault: FaultKind, elapsed_seconds: float, now: float) -> None:
        """Records for how long a failed order kept its client waiting. One that failed earlier than half of the
        successful ones end does not count: failing fast is not being fast."""
        stats = self.latencies.get_stats(now)
        if fault is FaultKind.ORDER_TIMED_OUT or (stats.count and elapsed_seconds >= stats.p50):
            self.latencies.add(elapsed_seconds, now, is_success=False)

    def record_failure(self, sent_at: float, now: float) -> None:
        if not self.breaker.get_trip(now):
            self._consecutive_failures += 1
            self._outcomes.add(now)
            self._failures.add(now)
        if self.breaker.is_half_open(now) or self._has_too_many_failures(now):
            self._reset_counters()
            self.breaker.record_failure(self._timing.outage, sent_at, now)

    def _has_too_many_failures(self, now: float) -> bool:
        outcomes = self._outcomes.count_recent(now)
        is_rate_exceeded = outcomes >= MIN_OUTCOMES and self._failures.count_recent(now) * 2 >= outcomes
        return is_rate_exceeded or self._consecutive_failures >= MAX_CONSECUTIVE_FAILURES

    def _reset_counters(self) -> None:
        """Resets the counters, so that the cell starts from zero once its breaker closes."""
        self._consecutive_failures = 0
        self._outcomes.clear()
        self._failures.clear()
