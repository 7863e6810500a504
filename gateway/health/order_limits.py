"""How much is ordered at once and in a minute: what the operator allows, and what the sellers turn out to bear."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from gateway.config.schema import AccountLimits
from gateway.health.circuit_breaker import clamp_retry_after
from gateway.health.concurrency_limiter import AccountLimiter, SlotTimeout
from gateway.health.stats import SlidingWindowCounter
from providers.faults import Fault, FaultKind

__all__ = ["AccountLimits", "OrderLimits", "RetryBudget", "SlotTimeout"]

BACKPRESSURE_FAULTS = frozenset({FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED})
MAX_RETRY_SHARE = 0.1
MIN_RETRIES = 3
RETRY_WINDOW_SECONDS, RETRY_WINDOW_BUCKETS = 60.0, 60


class OrderLimits:
    """Of one process. `clock` counts this process's monotonic seconds, as `time.monotonic` does."""

    def __init__(self, clock: Callable[[], float], accounts: Mapping[str, AccountLimits] | None = None) -> None:
        self._clock = clock
        self._limiters: dict[str, AccountLimiter] = {}
        self.configure(accounts or {})

    def configure(self, accounts: Mapping[str, AccountLimits]) -> None:
        """Also while orders are in progress: they finish, and nobody is let in until there is room below the new limit.

        An account that is not named any more keeps its limits while anything is in progress there.
        """
        for name in [name for name, limiter in self._limiters.items() if name not in accounts and limiter.is_idle]:
            del self._limiters[name]
        for name, limits in accounts.items():
            self._get_limiter(name).configure(limits)

    @asynccontextmanager
    async def slot(self, account: str, timeout_seconds: float) -> AsyncIterator[None]:
        """A place among the orders in progress, for as long as the block lasts. First come, first served.

        NoSlot if there is none within so many seconds: nothing was sent, and the seller is not to blame.
        """
        limiter = self._get_limiter(account)
        await limiter.acquire(timeout_seconds)
        try:
            yield
        finally:
            limiter.release()

    def on_fault(self, account: str, fault: Fault) -> None:
        """The seller wants fewer orders: none for as long as he says, and after a 429 only half as many at once.

        Any other fault means nothing here.
        """
        if fault.kind not in BACKPRESSURE_FAULTS:
            return
        limiter = self._get_limiter(account)
        if fault.kind is FaultKind.RATE_LIMITED:
            limiter.halve_limit()
        if fault.retry_after is not None:
            limiter.pause(clamp_retry_after(fault.retry_after))

    def get_load(self, account: str) -> float:
        """In progress against what is allowed: 0 where nothing is limited, from 1 on a new order would have to wait."""
        limiter = self._limiters.get(account)
        return limiter.get_load() if limiter else 0.0

    def get_remaining_pause(self, account: str) -> float | None:
        """For how many more seconds the seller wants no order at all; None if it did not say, or they are over."""
        limiter = self._limiters.get(account)
        return limiter.get_remaining_pause() if limiter else None

    def count_in_flight(self, account: str) -> int:
        limiter = self._limiters.get(account)
        return limiter.in_flight if limiter else 0

    def _get_limiter(self, account: str) -> AccountLimiter:
        if account not in self._limiters:
            self._limiters[account] = AccountLimiter(self._clock)
        return self._limiters[account]


class RetryBudget:
    """Extra orders, made because others failed: few among the last minute's, so that trouble does not breed trouble."""

    def __init__(self) -> None:
        self._first_orders = SlidingWindowCounter(RETRY_WINDOW_SECONDS, RETRY_WINDOW_BUCKETS)
        self._retries = SlidingWindowCounter(RETRY_WINDOW_SECONDS, RETRY_WINDOW_BUCKETS)

    def record_first_order(self, now: float) -> None:
        """A first order, which nobody had failed at before."""
        self._first_orders.add(now)

    def can_retry(self, now: float) -> bool:
        allowed = max(MIN_RETRIES, int(self._first_orders.count(now) * MAX_RETRY_SHARE))
        return self._retries.count(now) < allowed

    def record_retry(self, now: float) -> None:
        self._retries.add(now)
