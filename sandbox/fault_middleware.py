"""Middleware that injects the faults of the connection, and logs the requests."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from sandbox.delays import Delays
from sandbox.fault_injection import WIRE_KINDS, FaultRule, InjectedFault
from sandbox.order_simulator import wait_for_disconnect
from sandbox.state import SandboxState
from sandbox.vendors import RouteKind, Vendor

PROXY_ERROR_PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
BODILESS_STATUSES = {204, 304}
MAX_CHUNKS = 500


class FaultMiddleware(ASGIMiddleware):
    """Wraps every vendor route. Control routes have no vendor and are never disturbed."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        sandbox: SandboxState = scope["litestar_app"].state.sandbox
        vendor, route = _identify_route(scope)
        if vendor is None:
            await next_app(scope, receive, send)
            return
        receive = sandbox.request_log.wrap_receive(cast(HTTPScope, scope), vendor, route, receive)
        rule = sandbox.fault_injector.take_rule(vendor, route, WIRE_KINDS) if route else None
        if rule is None:
            await next_app(scope, receive, send)
        else:
            build_error_body, delays = sandbox.vendor_states[vendor].build_error_body, sandbox.simulators[vendor].delays
            await FaultExecutor(rule, build_error_body, delays).apply(scope, receive, send, next_app)


def _identify_route(scope: Scope) -> tuple[Vendor | None, RouteKind | None]:
    opt: Mapping[str, Any] = scope["route_handler"].opt
    vendor = opt.get("vendor") or (scope.get("path_params") or {}).get("vendor")
    known_vendor = Vendor(vendor) if vendor in set(Vendor) else None
    return known_vendor, opt.get("route")


class FaultExecutor:
    """Applies one rule to one request."""

    def __init__(
        self, rule: FaultRule, build_error_body: Callable[[int, str | None, str | None], object], delays: Delays
    ) -> None:
        self.rule = rule
        self.build_error_body = build_error_body
        self.delays = delays

    async def apply(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        rule = self.rule
        if rule.kind is InjectedFault.SLOW:
            await next_app(scope, receive, self._delay_response(send))
        elif rule.kind is InjectedFault.RESET_BEFORE:
            await _drain_request(receive)
            await reset_connection(scope, receive)
        elif rule.kind is InjectedFault.RESET_AFTER:
            await capture_response(scope, receive, next_app)
            await reset_connection(scope, receive)
        elif rule.kind is InjectedFault.TRUNCATE:
            await self._truncate_response(scope, receive, send, next_app)
        else:
            if rule.accepted and rule.kind is not InjectedFault.REFUSE:
                await capture_response(scope, receive, next_app)
            if rule.kind is InjectedFault.HANG:
                await self._hang_connection(scope, receive)
            else:
                await self._send_fault_response(send)

    def _get_seconds(self, default: float) -> float:
        return default if self.rule.seconds is msgspec.UNSET else self.rule.seconds

    async def _hang_connection(self, scope: Scope, receive: Receive) -> None:
        """Hangs until the client disconnects, so that hanging requests do not pile up."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wait_for_disconnect(receive), self._get_seconds(3_600))
        await reset_connection(scope, receive)

    async def _send_fault_response(self, send: Send) -> None:
        rule = self.rule
        default = {InjectedFault.REFUSE: 422, InjectedFault.HTML: 502}.get(rule.kind, 500)
        status = default if rule.status is msgspec.UNSET else rule.status
        media_type = "text/html" if rule.kind is InjectedFault.HTML else "application/json"
        headers = {"content-type": media_type}
        if status in BODILESS_STATUSES:
            await _send_response(send, status, {**headers, **_lowercase_names(rule.headers)}, b"")
            return
        body = self._build_body(status)
        await _send_response(
            send, status, {**headers, "content-length": str(len(body)), **_lowercase_names(rule.headers)}, body
        )

    def _build_body(self, status: int) -> bytes:
        rule = self.rule
        if rule.body is not None:
            return rule.body.encode()
        if rule.kind is InjectedFault.HTML:
            return PROXY_ERROR_PAGE
        return msgspec.json.encode(self.build_error_body(status, rule.code, rule.message))

    def _delay_response(self, send: Send) -> Send:
        """Delays the response, not the processing of the request."""
        # The delay begins with the request: it is ended by a release that comes before the response is complete.
        seconds, delay = self._get_seconds(2), self.delays.create_delay()

        async def send_late(message: Message) -> None:
            if message["type"] == "http.response.start":
                await delay.sleep(seconds)
            await send(message)

        async def send_in_chunks(message: Message) -> None:
            if message["type"] != "http.response.body" or not message["body"]:
                await send(message)
                return
            body, has_more, started_at = message["body"], message.get("more_body", False), time.monotonic()
            step = max(1, len(body) // MAX_CHUNKS)
            for offset in range(0, len(body), step):
                # Sleeps until a time of the clock, because the event loop rounds such short sleeps to zero.
                await asyncio.sleep(max(0.0, started_at + seconds * (offset + step) / len(body) - time.monotonic()))
                is_last = offset + step >= len(body)
                await send(
                    {
                        "type": "http.response.body",
                        "body": body[offset : offset + step],
                        "more_body": has_more or not is_last,
                    }
                )

        return send_in_chunks if self.rule.in_chunks else send_late

    async def _truncate_response(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        start, body = await capture_response(scope, receive, next_app)
        if start is not None:
            await send(start)
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            # Gives the sent half time to arrive before the reset.
            await asyncio.sleep(0.05)
        await reset_connection(scope, receive)


async def capture_response(scope: Scope, receive: Receive, next_app: ASGIApp) -> tuple[Message | None, bytes]:
    """Processes the request, and returns its response without sending it: its start, if any, and its body."""
    start: Message | None = None
    body = bytearray()
    complete = asyncio.Event()

    async def capture(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
        elif message["type"] == "http.response.body":
            body.extend(message["body"])
            if not message.get("more_body", False):
                complete.set()

    async def receive_or_complete() -> Any:
        """Receives a message for a streaming handler, which waits for a disconnect. Reports one when the response is
        complete."""
        tasks = [asyncio.ensure_future(receive()), asyncio.ensure_future(complete.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else {"type": "http.disconnect"}
        finally:
            for task in tasks:
                task.cancel()

    await next_app(scope, receive_or_complete, capture)
    return start, bytes(body)


async def reset_connection(scope: Scope, receive: Receive) -> None:
    """Resets the connection as a crashed vendor does; `server.py` provides the callable."""
    cast("Callable[[], None]", (scope["extensions"] or {})["sandbox.reset"])()
    # The server logs requests that end without a response, unless the client has disconnected.
    await wait_for_disconnect(receive)


async def _drain_request(receive: Receive) -> None:
    """Reads the whole request: a reset while the client is sending would have random effects."""
    while (await receive()).get("more_body", False):
        pass


async def _send_response(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw_headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _lowercase_names(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
