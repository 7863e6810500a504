"""Callbacks that were processed already: a redelivery is answered, and the seller is not asked again."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from hashlib import sha256
from typing import Any

from providers.spec import Callback

# Only what its seller has signed gets here, and it calls a few times for each order.
MAX_ATTEMPTS, MAX_PER_ATTEMPT = 10_000, 32
Attempt = tuple[str, int]
# What became of a callback: the fence of the owner that it was passed to, None if it was saved.
Outcome = int | None
# While a callback is being processed, the task that does so; then its outcome.
Seen = OrderedDict[bytes, "asyncio.Task[Outcome] | Outcome"]


class SeenCallbacks:
    """Of one process: another replica may process each of them once more."""

    def __init__(self) -> None:
        self._seen: OrderedDict[Attempt, Seen] = OrderedDict()

    async def process(
        self,
        attempt: Attempt,
        digest: bytes,
        process: Callable[[], Coroutine[Any, Any, Outcome]],
        is_used: Callable[[Outcome], Awaitable[bool]],
    ) -> bool:
        """Processes a callback unless an earlier delivery of it was processed and `is_used`. Returns whether it did so.

        A delivery that arrives while an earlier one is being processed ends as that one does. A callback that could not
        be processed was not seen: the seller calls again.
        """
        seen = self._of(attempt)
        if digest in seen and await _has_been_used(seen, digest, is_used):
            return False
        task = seen[digest] = asyncio.create_task(process())
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


async def _has_been_used(seen: Seen, digest: bytes, is_used: Callable[[Outcome], Awaitable[bool]]) -> bool:
    outcome = seen[digest]
    if isinstance(outcome, asyncio.Task):
        await asyncio.shield(outcome)
        return True
    if await is_used(outcome):
        return True
    # Another redelivery may be processed by now.
    processing = seen.get(digest)
    if isinstance(processing, asyncio.Task):
        await asyncio.shield(processing)
        return True
    return False


def _end(seen: Seen, digest: bytes, task: "asyncio.Task[Outcome]") -> None:
    has_failed = task.cancelled() or task.exception() is not None
    if seen.get(digest) is not task:
        return
    if has_failed:
        del seen[digest]
    else:
        seen[digest] = task.result()


def digest_of(callback: Callback, headers: Mapping[str, str], body: bytes) -> bytes:
    """Covers the name and the content. Not the signature, since a redelivery may have a new one."""
    name = headers.get(callback.id_header, "") if callback.id_header else ""
    return sha256(name.encode("utf-8", "backslashreplace") + b"\n" + body).digest()
