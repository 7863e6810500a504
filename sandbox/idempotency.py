"""Replayed keys: the first answer again, a conflict for another body, one order for simultaneous duplicates."""

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
    """What each key brought about. Only successes are kept: a refused request may be mended and sent again."""

    def __init__(self) -> None:
        self._entries: OrderedDict[str, tuple[bytes, asyncio.Future[ResultT]]] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        """Whether the key has brought something about, or is about to."""
        return key in self._entries

    async def run_once(
        self, key: str | None, body: bytes, create: Callable[[], Awaitable[ResultT]]
    ) -> tuple[ResultT, bool]:
        """The result of `create`, and whether it is a replay."""
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
            # The key becomes free before those who wait for it look again.
            self._entries.pop(key, None)
            future.cancel()
            raise
        future.set_result(result)
        while len(self._entries) > MAX_KEYS:
            self._entries.popitem(last=False)
        return result, False


async def _wait_for_result(future: asyncio.Future[ResultT]) -> ResultT | None:
    """What the first request with this key brought about, or None if it came to nothing."""
    await asyncio.wait([future])
    return None if future.cancelled() else future.result()
