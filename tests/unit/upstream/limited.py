"""Limits of one account `a`, and what tests ask of them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

from gateway.config.blocks import AccountLimits
from gateway.upstream.limits import Limits, NoSlot
from providers.faults import Fault, FaultKind

SOON = 5.0


class Clock:
    """Stands still unless it is turned."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def limited(clock: Callable[[], float] | None = None, **limits: int) -> Limits:
    return Limits(clock or Clock(), {"a": AccountLimits(**limits)})


def complaint(retry_after: float | None = None, kind: FaultKind = FaultKind.RATE_LIMITED) -> Fault:
    return Fault(kind=kind, retry_after=retry_after)


async def places(limits: Limits, most: int = 40) -> int:
    """How many are let in at once, beside those who are in already."""
    async with AsyncExitStack() as stack:
        for number in range(most):
            try:
                await stack.enter_async_context(limits.slot("a", 0))
            except NoSlot:
                return number
    return most


@contextmanager
def running(*work: Awaitable[None]) -> Iterator[list["asyncio.Future[None]"]]:
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
