"""Limits on orders of each account: how many at the same time, and how many in a minute."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from gateway.config.schema import AccountLimits
from gateway.health.circuit_breaker import clamp_retry_after
from gateway.health.concurrency_limiter import DEFAULT_BATCH_SHARE, AccountLimiter, Priority
from gateway.timeouts_and_intervals import HealthTiming
from providers.faults import Fault, FaultKind

BACKPRESSURE_FAULTS = frozenset({FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED})


class AccountLimiters:
    """Order limits of one process. `clock` returns monotonic seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        accounts: Mapping[str, AccountLimits] | None = None,
        timing: HealthTiming = HealthTiming(),
    ) -> None:
        self._timing = timing
        self._clock = clock
        self._limiters: dict[str, AccountLimiter] = {}
        self._batch_share = DEFAULT_BATCH_SHARE
        self.configure(accounts or {})

    def configure(self, accounts: Mapping[str, AccountLimits], batch_share: float = DEFAULT_BATCH_SHARE) -> None:
        """Applies new limits. Orders in flight finish; no other starts until the new limit allows it.

        An account that is no longer configured keeps its limits while it has orders in flight.
        """
        self._batch_share = batch_share
        for name in [name for name, limiter in self._limiters.items() if name not in accounts and limiter.is_idle]:
            del self._limiters[name]
        for name, limits in accounts.items():
            self._get_limiter(name).configure(limits, batch_share)

    @asynccontextmanager
    async def slot(
        self, account: str, timeout_seconds: float, priority: Priority = Priority.INTERACTIVE
    ) -> AsyncIterator[float]:
        """Holds one order slot of the account while the block runs. Waiting orders get slots in their order of arrival,
        those of batches last. Yields the seconds that this one waited.

        Raises SlotTimeout if no slot is free in time. Then nothing was sent, and the seller is not at fault.
        """
        limiter, started_at = self._get_limiter(account), self._clock()
        await limiter.acquire(timeout_seconds, priority)
        try:
            yield self._clock() - started_at
        finally:
            limiter.release(priority)

    def on_fault(self, account: str, fault: Fault) -> None:
        """Slows down if the fault requires it: pauses for its Retry-After, and halves the concurrency after a 429."""
        if fault.kind not in BACKPRESSURE_FAULTS:
            return
        limiter = self._get_limiter(account)
        if fault.kind is FaultKind.RATE_LIMITED:
            limiter.halve_limit()
        if fault.retry_after is not None:
            limiter.pause(clamp_retry_after(fault.retry_after, self._timing))

    def get_load(self, account: str) -> float:
        """Returns orders in flight divided by the limit: 0 without a limit, 1 or more if a new order would wait."""
        limiter = self._limiters.get(account)
        return limiter.get_load() if limiter else 0.0

    def get_remaining_pause(self, account: str) -> float | None:
        """Returns the seconds until the Retry-After of the seller is over; None if it gave none or it is over."""
        limiter = self._limiters.get(account)
        return limiter.get_remaining_pause() if limiter else None

    def count_waiting_batch_orders(self) -> int:
        """Returns how many orders of batches wait for a slot, at all accounts together."""
        return sum(limiter.waiting_batch_count for limiter in self._limiters.values())

    def get_limit(self, account: str) -> int | None:
        """Returns how many orders may be in flight now; None without a limit."""
        limiter = self._limiters.get(account)
        return limiter.current_limit if limiter else None

    def count_waiting(self, account: str) -> int:
        limiter = self._limiters.get(account)
        return limiter.waiting_count if limiter else 0

    def count_in_flight(self, account: str) -> int:
        limiter = self._limiters.get(account)
        return limiter.in_flight if limiter else 0

    def _get_limiter(self, account: str) -> AccountLimiter:
        if account not in self._limiters:
            self._limiters[account] = limiter = AccountLimiter(self._clock, self._timing)
            limiter.configure(AccountLimits(), self._batch_share)
        return self._limiters[account]
