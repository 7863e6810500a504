"""What an answer means, made out without keeping everybody else in this process waiting."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from providers.adapter import Answer
from providers.order_status import NoAnswer

ResultT = TypeVar("ResultT")

# Ten milliseconds' work or so. Pictures in base64 make answers larger than that, and nothing else does.
MAX_INLINE_BYTES = 1 << 20

# One after the other: two would not be read sooner, and would take the memory of two.
_thread = ThreadPoolExecutor(1, thread_name_prefix="reading")


async def read_response(reader: Callable[[Answer], ResultT], answer: Answer | NoAnswer) -> ResultT | NoAnswer:
    """What an exchange came to. A large answer is read by a thread."""
    if isinstance(answer, NoAnswer):
        return answer
    if len(answer.body) <= MAX_INLINE_BYTES:
        return reader(answer)
    return await asyncio.get_running_loop().run_in_executor(_thread, reader, answer)
