"""Idempotency keys: repeats get the first result, other bodies a conflict, concurrent duplicates one order."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")
MAX_KEYS = 20_000


class KeyConflictError(Exception):
    """The key was used before with another body."""


class ReplayCache(Generic[ResultT]):
    """Results by idempotency key. Only successes are kept: a rejected request may be corrected and sent again."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[bytes, asyncio.Future[ResultT]]] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        """Returns whether the key has a result, or a request in progress."""
        return key in self._entries

    async def run_once(
        self, key: str | None, body: bytes, create: Callable[[], Awaitable[ResultT]]
    ) -> tuple[ResultT, bool]:
        """Returns the result of `create`, and whether it is a replay."""
        if key is None:
            return await create(), False
        fingerprint = hashlib.sha256(body).digest()
        while entry := self._entries.get(key):
            if entry[0] != fingerprint:
                raise KeyConflictError
            if (result := await _wait_for_result(entry[1])) is not None:
                return result, True
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self._entries[key] = (fingerprint, future)
        try:
            result = await create()
        except BaseException:
            # Frees the key before the waiting duplicates look again.
            self._entries.pop(key, None)
            future.cancel()
            raise
        future.set_result(result)
        while len(self._entries) > MAX_KEYS:
            self._entries.popitem(last=False)
        return result, False


async def _wait_for_result(future: asyncio.Future[ResultT]) -> ResultT | None:
    """Returns the result of the first request with this key, or None if it failed."""
    await asyncio.wait([future])
    return None if future.cancelled() else future.result()
