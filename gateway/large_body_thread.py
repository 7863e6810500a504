"""A thread that works on large bodies, so that the event loop stays free for other requests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


class BodyThread:
    """Runs functions on bodies: for a small body directly, for large bodies one after the other in its own thread.

    A second thread would not finish sooner, would need twice the memory and would delay the event loop twice as long.
    """

    def __init__(self, name: str, max_inline_bytes: int) -> None:
        self.max_inline_bytes = max_inline_bytes
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, size_bytes: int, function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
        """Calls the function and returns its result. `size_bytes`: the size of its body.

        A thread shares the interpreter, so the function should work in steps of a few milliseconds.
        """
        if size_bytes <= self.max_inline_bytes:
            return function(*args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))
