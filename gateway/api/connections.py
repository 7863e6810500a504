"""A caller's connection, below requests: heads must come, and what is no HTTP is told so in our words."""

import asyncio
from asyncio import TimerHandle
from typing import Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.api.errors import ApiError
from gateway.api.request_ids import HEADER, request_id
from gateway.events import Emit, RequestAnswered

# For a request's head, from the connection's or the last request's end; and for what is left of a refused body.
HEAD_SECONDS = 30.0
# Bytes of a head, of trailers or of a chunk's own words; as a piece may be read at once, about so many.
MOST_HEAD_BYTES = 64 << 10
# Without a byte of an answer being taken.
TAKE_SECONDS = 60.0
# A client that ended its half of the connection may still listen, or be gone. A system whose client is gone answers
# these words, which every client passes over, with a reset, and the next ones cannot be written any more.
PROBE = STATUS_LINE[100] + b"\r\n"
PROBE_SECONDS = (0.5, 1.0)

CLOSE = {"connection": "close"}
MALFORMED = ApiError(400, "malformed_request", "What was sent is no request of HTTP/1.1.", headers=CLOSE)
LATE = ApiError(408, "head_timeout", "The request did not arrive in time. Ask again.", final=False, headers=CLOSE)
TOO_LONG = ApiError(
    431, "headers_too_large", f"The request's headers are larger than {MOST_HEAD_BYTES >> 10} KiB.", headers=CLOSE
)


class Line:
    """The connection of one request, as far as its handler needs it."""

    def __init__(self, connection: "Connection", cycle: RequestResponseCycle) -> None:
        self._connection = connection
        self._cycle = cycle

    @property
    def is_lost(self) -> bool:
        """No answer arrives any more."""
        return self._connection.is_lost

    def promise_answer(self) -> bool:
        """False if the client has ended the connection, or its half of it. Otherwise it gets an answer from now on,
        also if it ends its half."""
        if not self._connection.has_ended:
            self._connection.promised = self._cycle
        return self._connection.promised is self._cycle


class Connection(HttpToolsProtocol):
    """`emit` receives the events of requests that reach no handler. `promised`: the request that is answered even if
    its client ends half of the connection. `has_ended`: the client has ended at least its half."""

    emit: ClassVar[Emit]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url, self.headers = b"", []
        self._head: TimerHandle | None = None
        self._taking: TimerHandle | None = None
        self._probing: TimerHandle | None = None
        self.promised: RequestResponseCycle | None = None
        self.has_ended = self.is_lost = False
        # Read, and neither a whole head nor part of a body yet.
        self._unread = 0
        self._is_within_head = self._is_deaf = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the server has it
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.has_ended = self.is_lost = True
        for timer in (self._head, self._taking, self._probing):
            if timer is not None:
                timer.cancel()
        if self.promised is not None and not self.promised.response_complete:
            # The server tells only the last of several requests that wait for their turn.
            self.promised.disconnected = True
            self.promised.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            return
        self._unread += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._refuse(MALFORMED)
        if self._unread > MOST_HEAD_BYTES:
            self._refuse(TOO_LONG)
        elif not self._is_answering():
            self._expect_head()

    # --- parser

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                # The parser takes what follows for another protocol; we speak none, so it is this request's body.
                data = self._head_without_upgrade() + data[upgrade.args[0] :]

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] not in (b"upgrade", b"connection")]
        return b"\r\n".join((*lines, b"", b""))

    def on_message_begin(self) -> None:
        self._is_within_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes after a body is no header: nobody has looked at it, neither here nor before us.
        if self._is_within_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            # It comes again without that, except for what has no answer at all.
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no proxy")
            return
        super().on_headers_complete()
        self.scope["state"]["line"] = Line(self, self.cycle)
        self._is_within_head, self._unread = False, 0
        self._forget_head()

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._unread = 0
        if any(name == b"idempotency-key" for name, _ in self.headers):
            # It is ordered whatever its client ends, so it is answered as well.
            self.promised = self.cycle
        # What was left of a refused body has come: the next request has its own time.
        self._forget_head()
        super().on_message_complete()

    # --- heads

    def _is_answering(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head is None and not self.transport.is_closing():
            self._head = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _head_is_late(self) -> None:
        if self._is_within_head:
            self._refuse(LATE)
        else:
            self.transport.close()

    # --- what is answered here

    def _refuse(self, error: ApiError) -> None:
        """Nothing more is read. An answer that is on its way to an earlier request is not mixed with this one."""
        self._is_deaf = True
        if self.transport.is_closing():
            return
        if self._is_answering() and not self.cycle.more_body:
            self.cycle.keep_alive = False
            return
        if not self._is_answering() or not self.cycle.response_started:
            self.transport.write(self._written(error))
        self.transport.close()

    def _written(self, error: ApiError) -> bytes:
        name = request_id(self.headers)
        content, media_type = error.told(self.url.decode("latin-1"), name)
        headers = {"content-type": media_type, "content-length": str(len(content)), **error.answer_headers()}
        lines = b"".join(f"{key}: {value}\r\n".encode() for key, value in headers.items())
        type(self).emit(RequestAnswered(id=name, method="other", route="unknown", status=error.status, seconds=0.0))
        return b"".join((STATUS_LINE[error.status], HEADER, b": ", name.encode(), b"\r\n", lines, b"\r\n", content))

    # --- the client's end

    def eof_received(self) -> bool:  # type: ignore[override]  # the server closes at once
        """A client that has ended its half still gets what it was promised; nothing else is begun for it."""
        self.has_ended = True
        if self.promised is None or self.promised.response_complete:
            return False
        self.cycle.keep_alive = False
        if self.promised.scope["http_version"] != "1.0":
            self._probe(PROBE_SECONDS)
        return True

    def _probe(self, pauses: tuple[float, ...]) -> None:
        if self.promised is None or self.promised.response_started or self.transport.is_closing():
            return
        self.transport.write(PROBE)
        if pauses:
            self._probing = self.loop.call_later(pauses[0], self._probe, pauses[1:])

    # --- answers that nobody takes

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _watch_taking(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(TAKE_SECONDS, self._look_at_taking, left)

    def _look_at_taking(self, before: int) -> None:
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._watch_taking()


def connections(emit: Emit) -> type[Connection]:
    """The server makes one for each caller, of a kind that it is given."""
    return type("Connection", (Connection,), {"emit": staticmethod(emit)})
