"""One HTTP request and its response: assigns the id, measures the time, adds headers, emits the event."""

from collections.abc import Callable, Iterable
from time import perf_counter, time
from typing import Any, Protocol

from litestar.types import HTTPScope, Message, Send

from gateway.access.principal import Principal
from gateway.api.api_errors import ApiError
from gateway.api.authentication import make_key_revoked_error
from gateway.api.client_presence import get_presence
from gateway.api.cors_headers import CrossOriginHeaders
from gateway.api.incoming_body_limiter import IncomingBodyLimiter
from gateway.api.rate_limit_headers import build_rate_limit_headers
from gateway.api.request_ids import REQUEST_ID_HEADER, get_or_create_request_id
from gateway.api.server_error_responses import SHUTDOWN_RETRY_SECONDS, select_charge_sentence, service_unavailable_error
from gateway.events import RequestCompleted
from gateway.jobs.commit import IdempotencyRecord
from gateway.memory_budget import MemoryReservation
from gateway.trace_context import TraceContext, find_trace_context, find_tracestate

KNOWN_METHODS = ("GET", "POST", "HEAD", "OPTIONS")
# Litestar answers OPTIONS itself, with a less helpful response than its error for an unknown method.
UNROUTED_METHOD = "NONE"
RawHeader = tuple[bytes, bytes]
# Returns the context of a request's own span, or the client's if traces are not exported.
SpanStarter = Callable[[TraceContext | None], TraceContext | None]


def keep_client_span(client_context: TraceContext | None) -> TraceContext | None:
    """Starts no span: the job continues the client's trace directly."""
    return client_context


def merge_header_lines(headers: Iterable[RawHeader], name: bytes) -> list[RawHeader]:
    """Joins repeated headers of one name (RFC 9110, 5.3): handlers see only the first line."""
    headers = list(headers)
    values = [value for header_name, value in headers if header_name == name]
    if len(values) < 2:
        return headers
    return [*(header for header in headers if header[0] != name), (name, b", ".join(values))]


class ClosableStream(Protocol):
    """A stream of an image or a file."""

    def close(self) -> None: ...


class RequestLifecycle:
    """One request and its response. `incoming_body` reads the body for the handler.

    Handlers find `response_memory` in the state, and `streams`, to which they add open images. The memory is released
    and the streams are closed when the request ends.

    A HEAD request is handled as a GET request whose body is not sent: `scope` is that of the GET request.
    """

    def __init__(
        self,
        scope: HTTPScope,
        send: Send,
        incoming_body: IncomingBodyLimiter,
        response_memory: MemoryReservation,
        cross_origin_headers: CrossOriginHeaders,
    ) -> None:
        self._method: str = scope["method"]
        if self._method == "HEAD":
            # A copy: the server must not send a body.
            scope = {**scope, "method": "GET"}
        self.scope, self._send, self.incoming_body = scope, send, incoming_body
        self._response_memory, self._cross_origin_headers = response_memory, cross_origin_headers
        self._started_at, self._status, self._is_response_started = perf_counter(), 500, False
        self._send_seconds = 0.0
        self.request_id = get_or_create_request_id(scope["headers"])
        scope["headers"] = merge_header_lines(scope["headers"], b"prefer")
        self._preflight_headers = cross_origin_headers.build_preflight(scope)
        if self._method == "OPTIONS":
            scope["method"] = UNROUTED_METHOD  # type: ignore[typeddict-item]  # intended: no route has this method
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._streams: list[ClosableStream] = []
        self._state |= {"request_id": self.request_id, "incoming_body": incoming_body}
        self._state["client_method"] = self._method
        self._state |= {"streams": self._streams, "response_memory": response_memory}
        self._state |= {"traceparent": None, "tracestate": None}
        self._client_span: str | None = None
        self.is_key_revoked = False

    def start_trace(self, start_span: SpanStarter) -> None:
        """Reads the client's trace, or starts one. The job of the request continues it."""
        client_context = find_trace_context(self.scope["headers"])
        context = start_span(client_context)
        if context is not None:
            self._state["traceparent"] = str(context)
        if client_context is not None:
            self._state["tracestate"] = find_tracestate(self.scope["headers"])
            if context is not client_context:
                self._client_span = client_context.span_id

    async def send(self, message: Message) -> None:
        if self._method == "HEAD" and self._is_response_started:
            return
        if message["type"] == "http.response.start":
            self._status, self._is_response_started = message["status"], True
            gateway_headers = [
                (REQUEST_ID_HEADER, self.request_id.encode()),
                *self._build_overhead_header(),
                *self._build_limit_headers(),
                *self._build_close_header(),
                *(self._cross_origin_headers.build(self.scope) if self._preflight_headers is None else ()),
            ]
            message["headers"] = [*message["headers"], *gateway_headers]
        started_at = perf_counter()
        await self._send(message)
        self._send_seconds += perf_counter() - started_at
        if self._method == "HEAD":
            # The response is complete, so that a stream of events or an image ends here.
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def answer_preflight(self) -> bool:
        """Answers the request if it is one by which a browser asks for permission. Returns whether it is one."""
        if self._preflight_headers is None:
            return False
        await self.send({"type": "http.response.start", "status": 204, "headers": self._preflight_headers})
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    async def send_shutdown_error(self) -> None:
        """Sends an error for a request whose handler is cancelled by the shutdown."""
        if not self._is_response_started:
            message = "This gateway is shutting down."
            await self._send_error(service_unavailable_error(self.scope, "draining", message, SHUTDOWN_RETRY_SECONDS))

    async def end_revoked(self) -> None:
        """Ends a request whose API key was revoked and whose handler is cancelled: with an error, or in the middle of
        the response. A job that it created continues."""
        if self._is_response_started:
            self.abort_response()
        else:
            await self._send_error(make_key_revoked_error(self.key_id or ""))
        self._status = 401

    async def _send_error(self, error: ApiError) -> None:
        content, media_type = error.render(self.scope["path"], self.request_id, select_charge_sentence(self.scope))
        headers = {"content-type": media_type, "content-length": str(len(content)), **error.build_response_headers()}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": error.status, "headers": raw})
        await self.send({"type": "http.response.body", "body": content, "more_body": False})

    @property
    def is_response_started(self) -> bool:
        return self._is_response_started

    def abort_response(self) -> None:
        """Closes the connection in the middle of a response, so that its client does not take it for complete."""
        self._status = 500
        if (connection := self._state.get("client_connection")) is not None:
            connection.abort()

    def close(self) -> None:
        """Releases all memory and closes the open streams, however the request has ended."""
        self.incoming_body.release()
        self._response_memory.release()
        for stream in self._streams:
            stream.close()

    @property
    def key_id(self) -> str | None:
        """The id of the request's API key, once it is authenticated."""
        principal: Principal | None = self._state.get("principal")
        return principal.key_id if principal is not None else None

    @property
    def team(self) -> str | None:
        team: str | None = self._state.get("team")
        return team

    def find_abandoned_record(self) -> IdempotencyRecord | None:
        """Returns the record of a client that disconnected without a response to its job."""
        presence = get_presence(self._state)
        return presence.idempotency_record if presence is not None and presence.has_left_unanswered() else None

    def build_completed_event(self) -> RequestCompleted:
        return RequestCompleted(
            at=time(),
            id=self.request_id,
            method=self._method if self._method in KNOWN_METHODS else "other",
            route=self.scope.get("path_template") or "unknown",
            status=self._status,
            seconds=perf_counter() - self._started_at,
            waited_seconds=self._state.get("waited_seconds"),
            client_seconds=self._client_seconds,
            fetch_seconds=self._state.get("fetch_seconds", 0.0),
            team=self.team,
            job=self._state.get("job_id"),
            traceparent=self._state["traceparent"],
            client_span=self._client_span,
        )

    @property
    def _client_seconds(self) -> float:
        """The time spent waiting for the client: for its body, and until it read the response."""
        return self._send_seconds + self.incoming_body.elapsed_seconds

    def _build_overhead_header(self) -> list[tuple[bytes, bytes]]:
        """Builds the header with the gateway's own share of the duration, for requests that wait for a job."""
        if "waited_seconds" not in self._state:
            return []
        waited_seconds = self._state["waited_seconds"] + self._state.get("fetch_seconds", 0.0)
        seconds = perf_counter() - self._started_at - waited_seconds - self._client_seconds
        return [(b"x-igw-overhead-ms", str(max(0, round(seconds * 1000))).encode())]

    def _build_limit_headers(self) -> list[tuple[bytes, bytes]]:
        """Builds the headers with the rate limits of an authenticated principal that has any."""
        describe_limits = self._state.get("describe_limits")
        return build_rate_limit_headers(describe_limits()) if describe_limits is not None else []

    def _build_close_header(self) -> list[tuple[bytes, bytes]]:
        """Builds the header that closes the connection of a client that still waits for `100 Continue`, and so will not
        send its body."""
        expects_continue = any(name == b"expect" for name, _ in self.scope["headers"])
        return [(b"connection", b"close")] if expects_continue and not self.incoming_body.is_started else []


def get_response_memory(state: dict[str, Any]) -> MemoryReservation:
    reservation: MemoryReservation = state["response_memory"]
    return reservation


def get_image_streams(state: dict[str, Any]) -> list[ClosableStream]:
    """Returns the list of open images and files, which are closed when the response has ended."""
    streams: list[ClosableStream] = state["streams"]
    return streams
