"""Order limits of one account `a`, and helpers to check them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from gateway.config.schema import AccountLimits
from gateway.health.account_limiters import AccountLimiters
from gateway.health.concurrency_limiter import SlotTimeout
from gateway.timeouts_and_intervals import HealthTiming
from providers.faults import Fault, FaultKind
from tests.harness.manual_clock import ManualClock

WAIT_TIMEOUT_SECONDS = 60.0


def make_limits(
    clock: Callable[[], float] | None = None, timing: HealthTiming = HealthTiming(), **limits: int
) -> AccountLimiters:
    return AccountLimiters(clock or ManualClock(), {"a": AccountLimits(**limits)}, timing)


def make_fault(retry_after: float | None = None, kind: FaultKind = FaultKind.RATE_LIMITED) -> Fault:
    return Fault(kind=kind, retry_after=retry_after)


async def count_free_slots(limits: AccountLimiters, max_slots: int = 40) -> int:
    """Counts how many more slots can be taken at once."""
    async with AsyncExitStack() as stack:
        for number in range(max_slots):
            try:
                await stack.enter_async_context(limits.slot("a", 0))
            except SlotTimeout:
                return number
    return max_slots


@asynccontextmanager
async def hold_slots(limits: AccountLimiters, count: int) -> AsyncIterator[None]:
    """Holds so many slots, which must be free."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(limits.slot("a", 0))
        yield


async def hold_slot(limits: AccountLimiters) -> None:
    """Waits for a slot, and holds it until cancelled."""
    async with limits.slot("a", WAIT_TIMEOUT_SECONDS):
        await asyncio.sleep(WAIT_TIMEOUT_SECONDS)


@contextmanager
def run_tasks(*awaitables: Awaitable[None]) -> Iterator[list["asyncio.Future[None]"]]:
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
