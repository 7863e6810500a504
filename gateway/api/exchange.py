"""One request and its answer as they pass: named, measured, and told of."""

from collections.abc import Iterable
from time import perf_counter
from typing import Any

from litestar.types import HTTPScope, Message, Send

from gateway.api.interruption import LEAVING_SECONDS, interruption_error
from gateway.api.presence import get_presence
from gateway.api.receiving import Receiving
from gateway.api.request_ids import HEADER, request_id
from gateway.assets.shelf import Stream
from gateway.events import RequestAnswered
from gateway.jobs.commit import IdempotencyRecord

METHODS = ("GET", "POST", "HEAD", "OPTIONS")
# To OPTIONS the framework has an answer of its own, which says less than the one to a method that is not there.
NO_METHOD = "NONE"
Header = tuple[bytes, bytes]


def in_one_line(headers: Iterable[Header], name: bytes) -> list[Header]:
    """A list may come in several lines (RFC 9110, 5.3), of which a handler would see only the first."""
    headers = list(headers)
    values = [value for one, value in headers if one == name]
    if len(values) < 2:
        return headers
    return [*(header for header in headers if header[0] != name), (name, b", ".join(values))]


class Exchange:
    """`receiving`: what its handlers receive by. What they answer from, they put among `streams` of the state."""

    def __init__(self, scope: HTTPScope, send: Send, receiving: Receiving) -> None:
        self._scope, self._send, self.receiving = scope, send, receiving
        self._began, self._status, self._has_begun = perf_counter(), 500, False
        self.id = request_id(scope["headers"])
        scope["headers"] = in_one_line(scope["headers"], b"prefer")
        self._method: str = scope["method"]
        if self._method == "OPTIONS":
            scope["method"] = NO_METHOD  # type: ignore[typeddict-item]  # which is the point of it
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._streams: list[Stream] = []
        self._state |= {"request_id": self.id, "receiving": receiving, "streams": self._streams}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status, self._has_begun = message["status"], True
            ours = [(HEADER, self.id.encode()), *self._overhead(), *self._close()]
            message["headers"] = [*message["headers"], *ours]
        await self._send(message)

    async def break_off(self) -> None:
        """The process ends before the handler did."""
        if self._has_begun:
            return
        error = interruption_error(self._scope, "draining", "This gateway is shutting down.", LEAVING_SECONDS)
        content, media_type = error.told(self._scope["path"], self.id)
        headers = {"content-type": media_type, "content-length": str(len(content)), **error.answer_headers()}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": content, "more_body": False})

    def let_go(self) -> None:
        """Nothing is held any more for a request that has ended, however it has."""
        self.receiving.let_go()
        for stream in self._streams:
            stream.close()

    @property
    def team(self) -> str | None:
        team: str | None = self._state.get("team")
        return team

    def find_departed_record(self) -> IdempotencyRecord | None:
        """The record of a caller that left its job without an answer, if it did."""
        presence = get_presence(self._state)
        return presence.record if presence is not None and presence.has_left() else None

    def answered(self) -> RequestAnswered:
        return RequestAnswered(
            id=self.id,
            method=self._method if self._method in METHODS else "other",
            route=self._scope.get("path_template") or "unknown",
            status=self._status,
            seconds=perf_counter() - self._began,
            waited=self._state.get("waited", 0.0),
            team=self.team,
            job=self._state.get("job"),
        )

    def _overhead(self) -> list[tuple[bytes, bytes]]:
        """Of what waits for a job: the time that is ours."""
        if "waited" not in self._state:
            return []
        seconds = perf_counter() - self._began - self._state["waited"]
        return [(b"x-igw-overhead-ms", str(max(0, round(seconds * 1000))).encode())]

    def _close(self) -> list[tuple[bytes, bytes]]:
        """Who was not told to go on will not send the body; what he sends next must not be taken for it."""
        waits = any(name == b"expect" for name, _ in self._scope["headers"])
        return [(b"connection", b"close")] if waits and not self.receiving.has_begun else []
