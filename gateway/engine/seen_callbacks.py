"""Deduplicates callbacks. A redelivery is acknowledged without another poll of the order."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from hashlib import sha256
from typing import Any

from providers.adapter import CallbackSpec

# Only callbacks with a valid signature are counted here: a few for each order.
MAX_ATTEMPTS, MAX_DIGESTS_PER_ATTEMPT = 10_000, 32
AttemptKey = tuple[str, int]
# The outcome of a callback: the fence of the worker that it was passed to, None if it was saved.
WorkerFence = int | None
# While a callback is being processed, the task that does so; then its outcome.
SeenDigests = OrderedDict[bytes, "asyncio.Task[WorkerFence] | WorkerFence"]


class SeenCallbacks:
    """The callbacks that this process has seen. Another replica may process each of them once more."""

    def __init__(self) -> None:
        self._seen: OrderedDict[AttemptKey, SeenDigests] = OrderedDict()

    async def process_once(
        self,
        attempt_key: AttemptKey,
        digest: bytes,
        handler: Callable[[], Coroutine[Any, Any, WorkerFence]],
        is_applied: Callable[[WorkerFence], Awaitable[bool]],
    ) -> bool:
        """Processes a callback, unless an earlier delivery was processed and `is_applied`. Returns whether it was
        processed.

        A delivery that arrives while an earlier one is being processed ends with the same result. A callback that could
        not be processed does not count as seen: the seller delivers it again.
        """
        seen = self._get_seen_digests(attempt_key)
        if digest in seen and await _is_already_applied(seen, digest, is_applied):
            return False
        task = seen[digest] = asyncio.create_task(handler())
        task.add_done_callback(lambda task: _record_outcome(seen, digest, task))
        if len(seen) > MAX_DIGESTS_PER_ATTEMPT:
            seen.popitem(last=False)
        await asyncio.shield(task)
        return True

    def _get_seen_digests(self, attempt_key: AttemptKey) -> SeenDigests:
        seen = self._seen.setdefault(attempt_key, OrderedDict())
        self._seen.move_to_end(attempt_key)
        if len(self._seen) > MAX_ATTEMPTS:
            self._seen.popitem(last=False)
        return seen


async def _is_already_applied(
    seen: SeenDigests, digest: bytes, is_applied: Callable[[WorkerFence], Awaitable[bool]]
) -> bool:
    fence_or_task = seen[digest]
    if isinstance(fence_or_task, asyncio.Task):
        await asyncio.shield(fence_or_task)
        return True
    if await is_applied(fence_or_task):
        return True
    # Another redelivery may be in progress by now.
    other_task = seen.get(digest)
    if isinstance(other_task, asyncio.Task):
        await asyncio.shield(other_task)
        return True
    return False


def _record_outcome(seen: SeenDigests, digest: bytes, task: "asyncio.Task[WorkerFence]") -> None:
    has_failed = task.cancelled() or task.exception() is not None
    if seen.get(digest) is not task:
        return
    if has_failed:
        del seen[digest]
    else:
        seen[digest] = task.result()


def compute_digest(callback: CallbackSpec, headers: Mapping[str, str], body: bytes) -> bytes:
    """Computes the digest of the delivery id and the body. The signature is left out, since a redelivery may have a new
    one."""
    delivery_id = headers.get(callback.id_header, "") if callback.id_header else ""
    return sha256(delivery_id.encode("utf-8", "backslashreplace") + b"\n" + body).digest()
