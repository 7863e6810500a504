"""Whether a request's client is still connected, and whether it got its answer."""

import asyncio
import secrets
from typing import Any

from gateway.api.connections import Line
from gateway.jobs.commit import IdempotencyRecord

# A process that stood still, or was busy for long, reads that a client has left in its next turns.
TURNS = 2


class Presence:
    """`name` distinguishes this client from others that send the same request. `record`: the idempotency record that
    made it, or may have made it, a caller of a job."""

    def __init__(self, replica: str, line: Line | None) -> None:
        self.name = f"{replica}:{secrets.token_hex(6)}"
        self.record: IdempotencyRecord | None = None
        self.is_answered = False
        self._line = line

    async def is_there(self) -> bool:
        """Whether anything may be ordered for it. If so, it is answered, also if it ends its half of the connection."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return self._line is None or self._line.promise_answer()

    @property
    def is_lost(self) -> bool:
        """Whether no answer can reach the caller any more."""
        return self._line is not None and self._line.is_lost

    def has_left(self) -> bool:
        """Whether it left without its answer while a job counts it among its callers."""
        return self.record is not None and (self.is_lost or not self.is_answered)


def get_presence(state: dict[str, Any]) -> Presence | None:
    """Of a request that may become a job."""
    found = state.get("presence")
    return found if isinstance(found, Presence) else None
