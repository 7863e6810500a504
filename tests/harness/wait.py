"""Waits until something is true, with a timeout."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.01


def wait_until(
    condition: Callable[[], T],
    description: str,
    on_poll: Callable[[], object] = lambda: None,
    timeout_seconds: float = 60.0,
) -> T:
    """Returns the first result of `condition` that is true. Calls `on_poll` after each that is not."""
    deadline = time.monotonic() + timeout_seconds
    while not (result := condition()):
        on_poll()
        assert time.monotonic() < deadline, f"timed out after {timeout_seconds} s waiting until {description}"
        time.sleep(POLL_SECONDS)
    return result


async def wait_until_async(condition: Callable[[], T], description: str, timeout_seconds: float = 15.0) -> T:
    """Like `wait_until`, for code in an event loop."""
    deadline = time.monotonic() + timeout_seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"timed out after {timeout_seconds} s waiting until {description}"
        await asyncio.sleep(POLL_SECONDS)
    return result
