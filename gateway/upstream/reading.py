"""What an answer means, made out without keeping everybody else in this process waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from providers.progress import Unanswered
from providers.spec import Answer

P = TypeVar("P")

# Ten milliseconds' work or so. Pictures in base64 make answers larger than that, and nothing else does.
AT_ONCE_BYTES = 1 << 20

# One after the other: two would not be read sooner, and would take the memory of two.
_thread = ThreadPoolExecutor(1, thread_name_prefix="reading")


async def understood(read: Callable[[Answer], P], outcome: Answer | Unanswered) -> P | Unanswered:
    """What an exchange came to. A large answer is read by a thread."""
    if isinstance(outcome, Unanswered):
        return outcome
    if len(outcome.body) <= AT_ONCE_BYTES:
        return read(outcome)
    return await asyncio.get_running_loop().run_in_executor(_thread, read, outcome)
