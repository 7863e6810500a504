"""How much is ordered at once and in a minute: what the operator allows, and what the sellers turn out to bear."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from gateway.config.blocks import AccountLimits
from gateway.upstream.gates import seconds_to_wait
from gateway.upstream.lanes import Lane, NoSlot
from gateway.upstream.measures import Counts
from providers.faults import Fault, FaultKind

__all__ = ["AccountLimits", "Limits", "NoSlot", "OrderBudget"]

BUSY = frozenset({FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED})
EXTRA_SHARE = 0.1
EXTRA_AT_LEAST = 3
MINUTE, BUCKETS = 60.0, 60


class Limits:
    """Of one process. `clock` counts this process's monotonic seconds, as `time.monotonic` does."""

    def __init__(self, clock: Callable[[], float], accounts: Mapping[str, AccountLimits] | None = None) -> None:
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self.configure(accounts or {})

    def configure(self, accounts: Mapping[str, AccountLimits]) -> None:
        """Also while orders are in progress: they finish, and nobody is let in until there is room below the new limit.

        An account that is not named any more keeps its limits while anything is in progress there.
        """
        for name in [name for name, lane in self._lanes.items() if name not in accounts and lane.is_idle]:
            del self._lanes[name]
        for name, limits in accounts.items():
            self._lane(name).configure(limits)

    @asynccontextmanager
    async def slot(self, account: str, seconds: float) -> AsyncIterator[None]:
        """A place among the orders in progress, for as long as the block lasts. First come, first served.

        NoSlot if there is none within so many seconds: nothing was sent, and the seller is not to blame.
        """
        lane = self._lane(account)
        await lane.enter(seconds)
        try:
            yield
        finally:
            lane.leave()

    def hold(self, account: str, fault: Fault) -> None:
        """The seller wants fewer orders: none for as long as he says, and after a 429 only half as many at once.

        Any other fault means nothing here.
        """
        if fault.kind not in BUSY:
            return
        lane = self._lane(account)
        if fault.kind is FaultKind.RATE_LIMITED:
            lane.halve()
        if fault.retry_after is not None:
            lane.pause(seconds_to_wait(fault.retry_after))

    def load(self, account: str) -> float:
        """In progress against what is allowed: 0 where nothing is limited, from 1 on a new order would have to wait."""
        lane = self._lanes.get(account)
        return lane.load() if lane else 0.0

    def pause_left(self, account: str) -> float | None:
        """For how many more seconds the seller wants no order at all; None if it did not say, or they are over."""
        lane = self._lanes.get(account)
        return lane.pause_left() if lane else None

    def in_progress(self, account: str) -> int:
        lane = self._lanes.get(account)
        return lane.busy if lane else 0

    def _lane(self, account: str) -> Lane:
        if account not in self._lanes:
            self._lanes[account] = Lane(self._clock)
        return self._lanes[account]


class OrderBudget:
    """Extra orders, made because others failed: few among the last minute's, so that trouble does not breed trouble."""

    def __init__(self) -> None:
        self._orders = Counts(MINUTE, BUCKETS)
        self._extra = Counts(MINUTE, BUCKETS)

    def ordered(self, now: float) -> None:
        """A first order, which nobody had failed at before."""
        self._orders.add(now)

    def may_add(self, now: float) -> bool:
        allowed = max(EXTRA_AT_LEAST, int(self._orders.total(now) * EXTRA_SHARE))
        return self._extra.total(now) < allowed

    def added(self, now: float) -> None:
        self._extra.add(now)
