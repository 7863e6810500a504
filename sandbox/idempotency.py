"""Replayed keys: the first answer again, a conflict for another body, one order for simultaneous duplicates."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
KEPT_KEYS = 20_000


class KeyConflictError(Exception):
    """The key was used before with another body."""


class Replays(Generic[T]):
    """What each key brought about. Only successes are kept: a refused request may be mended and sent again."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[bytes, asyncio.Future[T]]] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        """Whether the key has brought something about, or is about to."""
        return key in self._kept

    async def once(self, key: str | None, body: bytes, make: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """The result of `make`, and whether it is a replay."""
        if key is None:
            return await make(), False
        fingerprint = hashlib.sha256(body).digest()
        while known := self._kept.get(key):
            if known[0] != fingerprint:
                raise KeyConflictError
            if (result := await _outcome(known[1])) is not None:
                return result, True
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._kept[key] = (fingerprint, future)
        try:
            result = await make()
        except BaseException:
            # The key becomes free before those who wait for it look again.
            self._kept.pop(key, None)
            future.cancel()
            raise
        future.set_result(result)
        while len(self._kept) > KEPT_KEYS:
            self._kept.popitem(last=False)
        return result, False


async def _outcome(future: asyncio.Future[T]) -> T | None:
    """What the first request with this key brought about, or None if it came to nothing."""
    await asyncio.wait([future])
    return None if future.cancelled() else future.result()
