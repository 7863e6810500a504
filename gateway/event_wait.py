"""Waits for an asyncio event, for a limited time."""

import asyncio


async def wait_and_clear(event: asyncio.Event, timeout_seconds: float) -> bool:
    """Waits until the event is set, and clears it. Returns False after the timeout."""
    try:
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
