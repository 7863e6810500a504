"""What one account, or one cell, has gone through lately, and what that makes of its gate."""

from gateway.routing.signals import falls_short
from gateway.upstream.gates import Gate, Pause, seconds_to_wait
from gateway.upstream.measures import Conformance, Counts, Kept, Latencies, joint_kept
from providers.faults import FaultKind

# A key or a credit does not mend itself within a minute; a seller that is down, or a cell, may.
REFUSED = Pause(first=60.0, most=900.0)
DOWN = Pause(first=30.0, most=300.0)
# Every trial of a cell whose pictures are not what is ordered is paid for. Where little is ordered, a short pause would
# make a trial of every order.
UNFAITHFUL = Pause(first=300.0, most=21_600.0)
REFUSALS = frozenset({FaultKind.BAD_KEY, FaultKind.NO_CREDIT, FaultKind.FORBIDDEN})
FAILURES_IN_A_ROW = 5
# Longer than an order takes, or every outcome would stand alone in its window.
WINDOW_SECONDS, WINDOW_BUCKETS = 120.0, 12
ENOUGH_OUTCOMES = 10


class AccountHealth:
    def __init__(self) -> None:
        self.gate = Gate()
        self._in_a_row = 0

    def succeeded(self, began: float) -> None:
        self._in_a_row = 0
        self.gate.succeeded(began)

    def failed(self, fault: FaultKind, retry_after: float | None, began: float, now: float) -> None:
        if fault is FaultKind.RATE_LIMITED:
            self.gate.asked_to_wait(seconds_to_wait(retry_after), now)
        elif fault in REFUSALS:
            self.gate.failed(REFUSED, began, now)
        else:
            self._was_down(began, now)

    def _was_down(self, began: float, now: float) -> None:
        if not self.gate.is_shut(now):
            self._in_a_row += 1
        if self.gate.awaits_trial(now) or self._in_a_row >= FAILURES_IN_A_ROW:
            self._in_a_row = 0
            self.gate.failed(DOWN, began, now)


class CellHealth:
    """`fidelity` is shut while the pictures are not what is ordered. It forbids no order: such a cell comes after those
    that deliver what is ordered, and is better than none."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.fidelity = Gate()
        self.latencies = Latencies()
        self.conformance = Conformance()
        self._in_a_row = 0
        self._outcomes = Counts(WINDOW_SECONDS, WINDOW_BUCKETS)
        self._failures = Counts(WINDOW_SECONDS, WINDOW_BUCKETS)

    def succeeded(self, began: float, now: float) -> None:
        self._in_a_row = 0
        if not self.gate.is_shut(now):
            self._outcomes.add(now)
        self.gate.succeeded(began)

    def delivered_as_ordered(self, began: float) -> None:
        self.conformance.add(True, began)
        self.fidelity.succeeded(began)

    def delivered_otherwise(self, elsewhere: Kept, began: float, now: float) -> None:
        """`elsewhere`: the counts of the other replicas. One odd picture shuts nothing, but fails a trial."""
        self.conformance.add(False, began)
        known = joint_kept((self.kept(now), elsewhere))
        if self.fidelity.is_shut(now) or falls_short(known.count, known.share):
            self.fidelity.failed(UNFAITHFUL, began, now)

    def kept(self, now: float) -> Kept:
        """What was ordered before a trial succeeded says nothing about what is delivered now."""
        return self.conformance.kept(now, since=self.fidelity.opened_by)

    def failed(self, began: float, now: float) -> None:
        if not self.gate.is_shut(now):
            self._in_a_row += 1
            self._outcomes.add(now)
            self._failures.add(now)
        if self.gate.awaits_trial(now) or self._fails_too_often(now):
            self._forgive()
            self.gate.failed(DOWN, began, now)

    def _fails_too_often(self, now: float) -> bool:
        outcomes = self._outcomes.total(now)
        too_many = outcomes >= ENOUGH_OUTCOMES and self._failures.total(now) * 2 >= outcomes
        return too_many or self._in_a_row >= FAILURES_IN_A_ROW

    def _forgive(self) -> None:
        """Whoever is shut out starts afresh when he is let in again, however that comes about."""
        self._in_a_row = 0
        self._outcomes.clear()
        self._failures.clear()
