"""Whether a request's client is still connected, and whether it got its answer."""

import asyncio
import secrets
from typing import Any

from gateway.api.http_protocol import ClientConnection
from gateway.jobs.commit import IdempotencyRecord

# A process that stood still, or was busy for long, reads that a client has left in its next turns.
EVENT_LOOP_TURNS = 2


class ClientPresence:
    """`client_id` distinguishes this client from others that send the same request. `idempotency_record`: the idempotency record that
    made it, or may have made it, a caller of a job."""

    def __init__(self, replica: str, connection: ClientConnection | None) -> None:
        self.client_id = f"{replica}:{secrets.token_hex(6)}"
        self.idempotency_record: IdempotencyRecord | None = None
        self.is_answered = False
        self._connection = connection

    async def promise_response(self) -> bool:
        """Whether anything may be ordered for it. If so, it is answered, also if it ends its half of the connection."""
        for _ in range(EVENT_LOOP_TURNS):
            await asyncio.sleep(0)
        return self._connection is None or self._connection.promise_response()

    @property
    def is_disconnected(self) -> bool:
        """Whether no answer can reach the caller any more."""
        return self._connection is not None and self._connection.is_disconnected

    def has_left_unanswered(self) -> bool:
        """Whether it left without its answer while a job counts it among its callers."""
        return self.idempotency_record is not None and (self.is_disconnected or not self.is_answered)


def get_presence(state: dict[str, Any]) -> ClientPresence | None:
    """Of a request that may become a job."""
    presence = state.get("presence")
    return presence if isinstance(presence, ClientPresence) else None
