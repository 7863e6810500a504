"""Large bodies are parsed by a thread, so that other requests do not wait for them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# A millisecond's work or two. Only prompts of many letters, and images, make bodies larger than that.
INLINE_MAX_BYTES = 32 << 10

# One after the other: two would not end sooner, and would keep the event loop waiting twice as long for its turns.
_thread = ThreadPoolExecutor(1, thread_name_prefix="bodies")


async def run_off_loop(size_bytes: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the function returns or raises. It is called at once where `size_bytes` bytes are no great work.

    Whatever it does with large data it does in steps of some milliseconds: a thread shares the interpreter.
    """
    if size_bytes <= INLINE_MAX_BYTES:
        return function(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_thread, lambda: function(*args, **kwargs))
