"""A semaphore that tenants share fairly: each has its own limit, and the tenant that holds least is served first."""

import asyncio
from collections import Counter, deque
from typing import NamedTuple

# The maximum number of waiting requests of one tenant. Further requests are rejected at once.
MAX_WAITERS = 64


class SemaphoreFull(Exception):
    """No share became free in time. `is_own`: whether the tenant's own limit was the reason."""

    def __init__(self, *, is_own: bool) -> None:
        super().__init__("the tenant's limit is reached" if is_own else "the total limit is reached")
        self.is_own = is_own


class _SemaphoreWaiter(NamedTuple):
    amount: int
    granted: "asyncio.Future[None]"


class TenantFairSemaphore:
    """Grants at most `max_total` at the same time, and `max_per_tenant` to each tenant. Requests of one tenant are
    served in order."""

    def __init__(self, max_total: int, max_per_tenant: int) -> None:
        self.max_total, self.max_per_tenant = max_total, max_per_tenant
        self._held: Counter[str] = Counter()
        self._waiters: dict[str, deque[_SemaphoreWaiter]] = {}

    @property
    def in_use(self) -> int:
        return self._held.total()

    async def acquire(self, tenant: str, timeout_seconds: float, amount: int = 1) -> None:
        """Waits for a share of `amount`. Raises SemaphoreFull if the share is not granted in time, or can never be
        granted."""
        if amount > self.max_per_tenant or len(self._waiters.get(tenant, ())) >= MAX_WAITERS:
            raise SemaphoreFull(is_own=True)
        waiter = _SemaphoreWaiter(amount, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(tenant, deque()).append(waiter)
        self._grant_waiters()
        if waiter.granted.done():
            return
        try:
            # The future itself is never cancelled, so it shows reliably whether it was granted.
            await asyncio.wait((waiter.granted,), timeout=timeout_seconds)
        except asyncio.CancelledError:
            self._cancel_waiter(tenant, waiter)
            raise
        if not waiter.granted.done():
            is_own = self._held[tenant] + amount > self.max_per_tenant
            self._cancel_waiter(tenant, waiter)
            raise SemaphoreFull(is_own=is_own)

    def release(self, tenant: str, amount: int = 1) -> None:
        self._held[tenant] -= amount
        if not self._held[tenant]:
            del self._held[tenant]
        self._grant_waiters()

    def _cancel_waiter(self, tenant: str, waiter: _SemaphoreWaiter) -> None:
        """Removes the waiter, or releases its share if it was granted in the same moment."""
        if waiter.granted.done():
            self.release(tenant, waiter.amount)
        else:
            self._remove_waiter(tenant, waiter)
            self._grant_waiters()

    def _remove_waiter(self, tenant: str, waiter: _SemaphoreWaiter) -> None:
        self._waiters[tenant].remove(waiter)
        if not self._waiters[tenant]:
            del self._waiters[tenant]

    def _grant_waiters(self) -> None:
        while (tenant := self._pick_tenant()) is not None:
            waiter = self._waiters[tenant][0]
            self._remove_waiter(tenant, waiter)
            self._held[tenant] += waiter.amount
            waiter.granted.set_result(None)

    def _pick_tenant(self) -> str | None:
        """Returns the next tenant to serve: of those below their limit, the one that holds least. Returns None if the
        total has no room for its request."""
        eligible = [
            tenant
            for tenant, queue in self._waiters.items()
            if self._held[tenant] + queue[0].amount <= self.max_per_tenant
        ]
        if not eligible:
            return None
        picked = min(eligible, key=self._held.__getitem__)
        return picked if self.in_use + self._waiters[picked][0].amount <= self.max_total else None
