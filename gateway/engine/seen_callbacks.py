"""Callbacks that were heard already: what comes again is answered, and nobody is asked about it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from hashlib import sha256
from typing import Any

from providers.spec import Callback

# Only what its seller has signed gets here, and it calls a few times for each order.
MAX_ATTEMPTS, MAX_PER_ATTEMPT = 10_000, 32
Attempt = tuple[str, int]
# While one is being heard, the task that does so.
Seen = OrderedDict[bytes, "asyncio.Task[None] | None"]


class SeenCallbacks:
    """Of one process: another replica may hear each of them once more."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Attempt, Seen] = OrderedDict()

    async def hear(self, attempt: Attempt, digest: bytes, hear: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Whether it was new. One that comes again while the first is still being heard ends as that does.

        What could not be heard was not seen: the seller calls again.
        """
        seen = self._of(attempt)
        if digest in seen:
            if (hearing := seen[digest]) is not None:
                await asyncio.shield(hearing)
            return False
        task = seen[digest] = asyncio.create_task(hear())
        task.add_done_callback(lambda task: _end(seen, digest, task))
        if len(seen) > MAX_PER_ATTEMPT:
            seen.popitem(last=False)
        await asyncio.shield(task)
        return True

    def _of(self, attempt: Attempt) -> Seen:
        seen = self._seen.setdefault(attempt, OrderedDict())
        self._seen.move_to_end(attempt)
        if len(self._seen) > MAX_ATTEMPTS:
            self._seen.popitem(last=False)
        return seen


def _end(seen: Seen, digest: bytes, task: "asyncio.Task[None]") -> None:
    has_failed = task.cancelled() or task.exception() is not None
    if seen.get(digest) is not task:
        return
    if has_failed:
        del seen[digest]
    else:
        seen[digest] = None


def digest_of(callback: Callback, headers: Mapping[str, str], body: bytes) -> bytes:
    """The same news under the same name. A redelivery may be signed anew, so the signature is no part of it."""
    name = headers.get(callback.id_header, "") if callback.id_header else ""
    return sha256(name.encode("utf-8", "backslashreplace") + b"\n" + body).digest()
