"""Lets a test delay, fail or kill the calls of one replica of a store in memory."""

import asyncio
from typing import Any, Protocol


class StoreCall:
    """One call of a store: the name of its method, its arguments, and the result that its caller awaits."""

    __slots__ = ("arguments", "name", "result")

    def __init__(self, name: str, arguments: tuple[Any, ...], result: "asyncio.Future[Any]") -> None:
        self.name, self.arguments, self.result = name, arguments, result

    def fail(self, error: Exception) -> None:
        """Raises the error at the caller now. Whether the call still has its effect is a separate matter."""
        if not self.result.done():
            self.result.set_exception(error)

    def answer(self, result: object) -> None:
        if not self.result.done():
            self.result.set_result(result)


class CallInterceptor(Protocol):
    """Is called by one replica, in this order: `before_call`, the effect of the call, `after_call`, its answer.

    A test can do this in these methods:
    - It awaits: the effect or the answer is delayed, and other calls overtake this one.
    - It raises StoreUnavailable in `before_call`: nothing is done, and the caller gets the error.
    - It raises StoreOutcomeUnknown in `before_call`: the same, but the caller cannot be sure of it.
    - It raises StoreOutcomeUnknown in `after_call`: the effect has happened, and its answer is lost.
    - It calls `call.fail(StoreOutcomeUnknown(...))` in `before_call` and then awaits: the effect happens later.
    - It calls `store.kill()`: in `before_call`, the process crashes before the effect; in `after_call`, after it.

    `result` is what the effect returned. An effect that raised an error has no `after_call`. `open`, `close` and
    `watch` are not intercepted.
    """

    async def before_call(self, call: StoreCall) -> None: ...

    async def after_call(self, call: StoreCall, result: object) -> None: ...
