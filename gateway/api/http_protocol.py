"""Extends uvicorn's HTTP protocol: header and write timeouts, header size limits, JSON errors for malformed requests,
half-closed connections, responses to clients that still send.
"""

import asyncio
import re
from asyncio import TimerHandle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time
from typing import Any, ClassVar

from httptools import HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.api.api_errors import ApiError
from gateway.api.charge_sentences import NOT_CHARGED
from gateway.api.http_1_0_responses import send_without_chunks
from gateway.api.lingering_close import LingeringTransport
from gateway.api.request_head_checks import find_head_error
from gateway.api.request_ids import REQUEST_ID_HEADER, get_or_create_request_id
from gateway.events import EventSink, RequestCompleted
from gateway.timeouts_and_intervals import ApiTiming

# Limit for headers, trailers and chunk extensions. Checked after each read, so slightly more may arrive.
MAX_HEADER_BYTES = 64 << 10
# A half-closed client may still read, or be gone. If it is gone, its machine answers the first write with a reset, and
# the second write fails. So `100 Continue` is written, which every client ignores.
PROBE_RESPONSE = STATUS_LINE[100] + b"\r\n"

_SCHEME_AND_HOST = re.compile(r"https?://[^/]*", re.ASCII | re.IGNORECASE)
CLOSE_HEADERS = {"connection": "close"}
MALFORMED_REQUEST_ERROR = ApiError(
    400,
    "malformed_request",
    "The request is not valid HTTP/1.1. Use an HTTP client library.",
    headers=CLOSE_HEADERS,
)
HEADER_TIMEOUT_ERROR = ApiError(
    408,
    "head_timeout",
    "The request's headers did not arrive in time. Retry the request.",
    is_retryable=True,
    headers=CLOSE_HEADERS,
)
HEADERS_TOO_LARGE_ERROR = ApiError(
    431,
    "headers_too_large",
    f"The request's headers are larger than {MAX_HEADER_BYTES >> 10} KiB. Send fewer or shorter headers.",
    headers=CLOSE_HEADERS,
)


class ClientConnection:
    """The client's connection, as the handler of one request uses it."""

    def __init__(self, protocol: "HttpProtocol", cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle

    @property
    def is_disconnected(self) -> bool:
        """Whether no response can reach the client any more."""
        return self._protocol.is_disconnected

    def abort(self) -> None:
        """Closes the connection at once. The client gets no further byte."""
        self._cycle.disconnected = True
        self._protocol.transport.abort()

    def promise_response(self) -> bool:
        """Promises a response, even if the client half-closes the connection later. Returns False if the client has
        already closed or half-closed it."""
        if not self._protocol.is_half_closed:
            self._protocol.promised_cycle = self._cycle
        return self._protocol.promised_cycle is self._cycle

    @contextmanager
    def call_on_disconnect(self, callback: Callable[[], object]) -> Iterator[None]:
        """Calls the function if the connection ends within the block."""
        self._protocol.disconnect_callbacks.append(callback)
        # The end of the connection is not noticed while a large body has paused reading.
        self._protocol.flow.resume_reading()
        try:
            yield
        finally:
            self._protocol.disconnect_callbacks.remove(callback)


class HttpProtocol(HttpToolsProtocol):
    """One client connection. `emit` receives events of requests that reach no handler.

    `promised_cycle`: the request that is answered even on a half-closed connection. `is_half_closed`: the client has
    sent its last byte. `disconnect_callbacks`: called when the connection ends.
    """

    emit: ClassVar[EventSink]
    timing: ClassVar[ApiTiming]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.url, self.headers = b"", []
        self._header_timer: TimerHandle | None = None
        self._write_timer: TimerHandle | None = None
        self._probe_timer: TimerHandle | None = None
        self._linger_timer: TimerHandle | None = None
        self.promised_cycle: RequestResponseCycle | None = None
        self.is_half_closed = self.is_disconnected = False
        self.disconnect_callbacks: list[Callable[[], object]] = []
        # Bytes that were read and belong neither to complete headers nor to a body.
        self._pending_header_bytes = 0
        self._is_in_headers = self._is_input_ignored = False
        self._deferred_error: ApiError | None = None
        self._head_error: ApiError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it, too
        super().connection_made(transport)
        self._start_header_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_half_closed = self.is_disconnected = True
        for timer in (self._header_timer, self._write_timer, self._probe_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        if self.promised_cycle is not None and not self.promised_cycle.response_complete:
            # uvicorn notifies only the last of several pipelined requests.
            self.promised_cycle.disconnected = True
            self.promised_cycle.message_event.set()
        for callback in self.disconnect_callbacks:
            callback()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_input_ignored:
            return
        self._pending_header_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed_parser(data)
        except HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._send_error(self._head_error or MALFORMED_REQUEST_ERROR)
        if self._pending_header_bytes > MAX_HEADER_BYTES:
            self._send_error(HEADERS_TOO_LARGE_ERROR)
        elif not self._is_responding():
            self._start_header_timer()

    # --- parser

    def _feed_parser(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                # The parser treats the rest as another protocol. None is supported, so the rest is this request's body.
                data = self._rebuild_head_without_upgrade() + data[upgrade.args[0] :]

    def _rebuild_head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] not in (b"upgrade", b"connection")]
        return b"\r\n".join((*lines, b"", b""))

    def on_message_begin(self) -> None:
        self._is_in_headers = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            # The request is parsed again without its upgrade. CONNECT always asks for one, so it is rejected as
            # malformed.
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("CONNECT is not supported")
            return
        self._head_error = find_head_error(self.parser.get_http_version(), self.headers)
        if self._head_error is not None:
            raise ValueError(self._head_error.message)
        super().on_headers_complete()
        # From now on the parser adds trailers. They must not reach the request's handler: neither this gateway nor a
        # proxy in front of it has validated them.
        self.headers = self.headers.copy()
        self.cycle.transport = LingeringTransport(  # type: ignore[assignment]  # it delegates to a transport
            self.transport, self.cycle, self._linger
        )
        self.scope["state"]["client_connection"] = ClientConnection(self, self.cycle)
        if self.scope["http_version"] == "1.0":
            send_without_chunks(self.cycle)
        self._is_in_headers, self._pending_header_bytes = False, 0
        self._cancel_header_timer()

    def on_body(self, body: bytes) -> None:
        self._pending_header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._pending_header_bytes = 0
        if b"idempotency-key" in dict(self.scope["headers"]):
            # A request with an idempotency key is ordered even if its client disconnects. So it gets a response, too.
            self.promised_cycle = self.cycle
        # The remainder of a rejected body is complete; the next request gets its own timeout.
        self._cancel_header_timer()
        super().on_message_complete()

    # --- header timeout

    def _is_responding(self) -> bool:
        return bool(self.cycle) and not self.cycle.response_complete

    def _start_header_timer(self) -> None:
        if self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self.timing.header_timeout_seconds, self._on_header_timeout)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _on_header_timeout(self) -> None:
        if self._is_in_headers:
            self._send_error(HEADER_TIMEOUT_ERROR)
        else:
            self.transport.close()

    # --- errors of requests without a handler

    def _send_error(self, error: ApiError) -> None:
        """Sends the error after the responses to earlier requests, never into one of them. Stops reading."""
        self._is_input_ignored = True
        if self.transport.is_closing() or self._linger_timer is not None:
            return
        if self._is_responding() and not self.cycle.more_body:
            self._deferred_error = error
            return
        if not self._is_responding() or not self.cycle.response_started:
            self.transport.write(self._render_error(error))
        if error is HEADER_TIMEOUT_ERROR:
            self.transport.close()
        else:
            self._linger()

    def on_response_complete(self) -> None:
        if self._linger_timer is not None:
            return
        super().on_response_complete()
        if self._deferred_error is not None and not self._is_responding():
            self._send_error(self._deferred_error)

    def _linger(self) -> None:
        """Closes the sending side. Discards input until the client closes the connection, or a timeout."""
        self._is_input_ignored = True
        self._cancel_header_timer()
        self.flow.resume_reading()
        self.transport.write_eof()
        self._linger_timer = self.loop.call_later(self.timing.header_timeout_seconds, self.transport.close)

    def _render_error(self, error: ApiError) -> bytes:
        request_id = get_or_create_request_id(self.headers)
        content, media_type = error.render(_get_path(self.url), request_id, NOT_CHARGED)
        headers = {"content-type": media_type, "content-length": str(len(content)), **error.build_response_headers()}
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        type(self).emit(
            RequestCompleted(
                at=time(), id=request_id, method="other", route="unknown", status=error.status, seconds=0.0
            )
        )
        return b"".join(
            (STATUS_LINE[error.status], REQUEST_ID_HEADER, b": ", request_id.encode(), b"\r\n", lines, b"\r\n", content)
        )

    # --- half-closed connections

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn closes at once
        """Keeps a half-closed connection open until the promised response is sent. Starts no new request on it."""
        self.is_half_closed = True
        if self.promised_cycle is None or self.promised_cycle.response_complete:
            return False
        self.cycle.keep_alive = False
        if self.promised_cycle.scope["http_version"] != "1.0":
            interval_seconds = self.timing.probe_interval_seconds
            self._send_probe((interval_seconds, 2 * interval_seconds))
        return True

    def _send_probe(self, delays: tuple[float, ...]) -> None:
        if self.promised_cycle is None or self.promised_cycle.response_started or self.transport.is_closing():
            return
        self.transport.write(PROBE_RESPONSE)
        if delays:
            self._probe_timer = self.loop.call_later(delays[0], self._send_probe, delays[1:])

    # --- responses that the client does not read

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_write_timer(self) -> None:
        unsent_bytes = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(self.timing.write_timeout_seconds, self._on_write_timer, unsent_bytes)

    def _on_write_timer(self, previous_unsent_bytes: int) -> None:
        if self.transport.get_write_buffer_size() >= previous_unsent_bytes:
            self.transport.abort()
        else:
            self._start_write_timer()


def _get_path(url: bytes) -> str:
    """Returns the path of a URL, which a request to a proxy spells with scheme and host. It may be malformed."""
    return _SCHEME_AND_HOST.sub("", url.decode("latin-1"))


def make_protocol_class(emit: EventSink, timing: ApiTiming) -> type[HttpProtocol]:
    """Makes the protocol class, which uvicorn instantiates for each connection."""
    return type("HttpProtocol", (HttpProtocol,), {"emit": staticmethod(emit), "timing": timing})
