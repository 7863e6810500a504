"""Tracks whether the client of a request is still connected, and whether it received a response."""

import asyncio
from itertools import count
from typing import Any

from gateway.api.http_protocol import ClientConnection
from gateway.jobs.commit import IdempotencyRecord

# After a pause, a process needs some turns of its event loop before it notices a disconnect.
EVENT_LOOP_TURNS = 2
# Numbers the clients of this process, whose replica id no other process has.
_CLIENT_NUMBERS = count(1)


class ClientPresence:
    """One request's client. `client_id` distinguishes it from clients that send equal requests.

    `idempotency_record`: the record under which this client counts as a caller of a job.
    """

    def __init__(self, replica: str, connection: ClientConnection | None) -> None:
        self.client_id = f"{replica}:{next(_CLIENT_NUMBERS)}"
        self.idempotency_record: IdempotencyRecord | None = None
        self.is_answered = False
        self._connection = connection

    async def promise_response(self) -> bool:
        """Promises the client a response, even if the client half-closes the connection later.

        Returns False if the client is disconnected already.
        """
        for _ in range(EVENT_LOOP_TURNS):
            await asyncio.sleep(0)
        return self._connection is None or self._connection.promise_response()

    @property
    def is_disconnected(self) -> bool:
        """Whether no response can reach the client any more."""
        return self._connection is not None and self._connection.is_disconnected

    def has_left_unanswered(self) -> bool:
        """Returns whether the client disconnected without a response while it counts as a caller of a job."""
        return self.idempotency_record is not None and (self.is_disconnected or not self.is_answered)


def get_presence(state: dict[str, Any]) -> ClientPresence | None:
    """Returns the presence of the request's client; None if the request cannot become a job."""
    presence = state.get("presence")
    return presence if isinstance(presence, ClientPresence) else None


def mark_answered(state: dict[str, Any]) -> None:
    """Marks the request as answered, so that its client still counts as a caller of the job."""
    if (presence := get_presence(state)) is not None:
        presence.is_answered = True
