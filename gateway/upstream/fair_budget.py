"""Something limited that tenants share: none takes more than its part, and the one that holds least is served first."""

import asyncio
from collections import Counter, deque
from typing import NamedTuple

# Of one tenant. Later requests are refused at once.
MAX_WAITING = 64


class BudgetFull(Exception):
    """There was none left within the time given. `is_own`: the tenant itself holds all that it may."""

    def __init__(self, *, is_own: bool) -> None:
        super().__init__("the tenant's own part is taken" if is_own else "all of it is taken")
        self.is_own = is_own


class _Waiter(NamedTuple):
    amount: int
    granted: "asyncio.Future[None]"


class FairBudget:
    """At most `total` at once, and `per_tenant` of it for each. A tenant's own requests are served in their order."""

    def __init__(self, total: int, per_tenant: int) -> None:
        self.total, self.per_tenant = total, per_tenant
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[_Waiter]] = {}

    @property
    def in_use(self) -> int:
        return self._held.total()

    async def acquire(self, tenant: str, seconds: float, amount: int = 1) -> None:
        """Waits for so long at most; BudgetFull if that was not enough, or cannot be."""
        if amount > self.per_tenant or len(self._waiting.get(tenant, ())) >= MAX_WAITING:
            raise BudgetFull(is_own=True)
        waiter = _Waiter(amount, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(tenant, deque()).append(waiter)
        self._grant()
        if waiter.granted.done():
            return
        try:
            # The future itself is never cancelled, so it always says whether it was granted.
            await asyncio.wait((waiter.granted,), timeout=seconds)
        except asyncio.CancelledError:
            self._withdraw(tenant, waiter)
            raise
        if not waiter.granted.done():
            is_own = self._held[tenant] + amount > self.per_tenant
            self._withdraw(tenant, waiter)
            raise BudgetFull(is_own=is_own)

    def release(self, tenant: str, amount: int = 1) -> None:
        self._held[tenant] -= amount
        if not self._held[tenant]:
            del self._held[tenant]
        self._grant()

    def _withdraw(self, tenant: str, waiter: _Waiter) -> None:
        """It may have been granted in the same moment."""
        if waiter.granted.done():
            self.release(tenant, waiter.amount)
        else:
            self._leave(tenant, waiter)
            self._grant()

    def _leave(self, tenant: str, waiter: _Waiter) -> None:
        self._waiting[tenant].remove(waiter)
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def _grant(self) -> None:
        while (tenant := self._next_tenant()) is not None:
            waiter = self._waiting[tenant][0]
            self._leave(tenant, waiter)
            self._held[tenant] += waiter.amount
            waiter.granted.set_result(None)

    def _next_tenant(self) -> str | None:
        """The tenant that holds least, of those whose own part has room, if the whole has room for it."""
        may = [
            tenant for tenant, line in self._waiting.items() if self._held[tenant] + line[0].amount <= self.per_tenant
        ]
        if not may:
            return None
        least = min(may, key=self._held.__getitem__)
        return least if self.in_use + self._waiting[least][0].amount <= self.total else None
