"""Waits until something is true, with a timeout. The error says what was awaited, and the last value."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
POLL_SECONDS = 0.01
# Guards a test against hanging. It is much longer than anything takes on a busy machine.
GUARD_SECONDS = 60.0
MAX_SHOWN_CHARS = 2_000


def wait_for_value(
    read_value: Callable[[], T],
    is_awaited: Callable[[T], object],
    description: str,
    on_poll: Callable[[], object] = lambda: None,
    timeout_seconds: float = GUARD_SECONDS,
) -> T:
    """Returns the first awaited value. Calls `on_poll` after each other value."""
    deadline = time.monotonic() + timeout_seconds
    while not is_awaited(value := read_value()):
        on_poll()
        _check_deadline(deadline, timeout_seconds, description, value)
        time.sleep(POLL_SECONDS)
    return value


def wait_until(
    condition: Callable[[], T],
    description: str,
    on_poll: Callable[[], object] = lambda: None,
    timeout_seconds: float = GUARD_SECONDS,
) -> T:
    """Returns the first result of `condition` that is true. Calls `on_poll` after each that is not."""
    return wait_for_value(condition, bool, description, on_poll, timeout_seconds)


async def wait_for_value_async(
    read_value: Callable[[], Awaitable[T]],
    is_awaited: Callable[[T], object],
    description: str,
    timeout_seconds: float = GUARD_SECONDS,
) -> T:
    """Like `wait_for_value`, for code in an event loop."""
    deadline = time.monotonic() + timeout_seconds
    while not is_awaited(value := await read_value()):
        _check_deadline(deadline, timeout_seconds, description, value)
        await asyncio.sleep(POLL_SECONDS)
    return value


async def wait_until_async(condition: Callable[[], T], description: str, timeout_seconds: float = GUARD_SECONDS) -> T:
    """Like `wait_until`, for code in an event loop."""

    async def read_result() -> T:
        return condition()

    return await wait_for_value_async(read_result, bool, description, timeout_seconds)


def _check_deadline(deadline: float, timeout_seconds: float, description: str, value: object) -> None:
    assert time.monotonic() < deadline, (
        f"timed out after {timeout_seconds} s waiting until {description}; last value: {repr(value)[:MAX_SHOWN_CHARS]}"
    )
