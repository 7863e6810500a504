"""Applies the faults of `mischief.py` that happen on the wire, and keeps the list of what was asked."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from sandbox.mischief import WIRE_KINDS, Kind, Route, Rule, Vendor
from sandbox.shop import client_left
from sandbox.world import World

PROXY_PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
BODILESS = {204, 304}
MOST_DROPS = 500


class Interference(ASGIMiddleware):
    """Wraps every vendor route; the control routes carry no vendor and are never disturbed."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        world: World = scope["litestar_app"].state.world
        vendor, route = _whose(scope)
        if vendor is None:
            await next_app(scope, receive, send)
            return
        receive = world.requests.recording(cast(HTTPScope, scope), vendor, route, receive)
        rule = world.mischief.take(vendor, route, WIRE_KINDS) if route else None
        if rule is None:
            await next_app(scope, receive, send)
        else:
            await Trouble(rule, world.vendors[vendor].error).befall(scope, receive, send, next_app)


def _whose(scope: Scope) -> tuple[Vendor | None, Route | None]:
    opt: Mapping[str, Any] = scope["route_handler"].opt
    vendor = opt.get("vendor") or (scope.get("path_params") or {}).get("vendor")
    known = Vendor(vendor) if vendor in set(Vendor) else None
    return known, opt.get("route")


class Trouble:
    """One rule at work on one exchange."""

    def __init__(self, rule: Rule, error_body: Callable[[int, str | None, str | None], object]) -> None:
        self.rule = rule
        self.error_body = error_body

    async def befall(self, scope: Scope, receive: Receive, send: Send, carry_out: ASGIApp) -> None:
        rule = self.rule
        if rule.kind is Kind.SLOW:
            await carry_out(scope, receive, self._slowly(send))
        elif rule.kind is Kind.RESET_BEFORE:
            await _read_to_the_end(receive)
            await reset(scope, receive)
        elif rule.kind is Kind.RESET_AFTER:
            await unseen(scope, receive, carry_out)
            await reset(scope, receive)
        elif rule.kind is Kind.TRUNCATE:
            await self._truncate(scope, receive, send, carry_out)
        else:
            if rule.accepted and rule.kind is not Kind.REFUSE:
                await unseen(scope, receive, carry_out)
            if rule.kind is Kind.HANG:
                await self._hang(scope, receive)
            else:
                await self._answer(send)

    def _seconds(self, default: float) -> float:
        return default if self.rule.seconds is msgspec.UNSET else self.rule.seconds

    async def _hang(self, scope: Scope, receive: Receive) -> None:
        """Not for longer than the client does, or the hung would pile up here."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client_left(receive), self._seconds(3_600))
        await reset(scope, receive)

    async def _answer(self, send: Send) -> None:
        rule = self.rule
        default = {Kind.REFUSE: 422, Kind.HTML: 502}.get(rule.kind, 500)
        status = default if rule.status is msgspec.UNSET else rule.status
        media_type = "text/html" if rule.kind is Kind.HTML else "application/json"
        headers = {"content-type": media_type}
        if status in BODILESS:
            await _send(send, status, {**headers, **_lower(rule.headers)}, b"")
            return
        body = self._body(status)
        await _send(send, status, {**headers, "content-length": str(len(body)), **_lower(rule.headers)}, body)

    def _body(self, status: int) -> bytes:
        rule = self.rule
        if rule.body is not None:
            return rule.body.encode()
        if rule.kind is Kind.HTML:
            return PROXY_PAGE
        return msgspec.json.encode(self.error_body(status, rule.code, rule.message))

    def _slowly(self, send: Send) -> Send:
        """Holds the answer back, not the order: that is taken as fast as ever."""
        seconds = self._seconds(2)

        async def late(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(seconds)
            await send(message)

        async def dripping(message: Message) -> None:
            if message["type"] != "http.response.body" or not message["body"]:
                await send(message)
                return
            body, more, began = message["body"], message.get("more_body", False), time.monotonic()
            step = max(1, len(body) // MOST_DROPS)
            for at in range(0, len(body), step):
                # Against the clock, because the loop's own timer rounds so short a sleep to nothing.
                await asyncio.sleep(max(0.0, began + seconds * (at + step) / len(body) - time.monotonic()))
                last = at + step >= len(body)
                await send({"type": "http.response.body", "body": body[at : at + step], "more_body": more or not last})

        return dripping if self.rule.drip else late

    async def _truncate(self, scope: Scope, receive: Receive, send: Send, carry_out: ASGIApp) -> None:
        start, body = await unseen(scope, receive, carry_out)
        if start is not None:
            await send(start)
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            # Give the half that was sent time to leave before the reset overtakes it.
            await asyncio.sleep(0.05)
        await reset(scope, receive)


async def unseen(scope: Scope, receive: Receive, carry_out: ASGIApp) -> tuple[Message | None, bytes]:
    """Carries the request out and keeps the answer here: its start, if there was one, and its body."""
    start: Message | None = None
    body = bytearray()
    complete = asyncio.Event()

    async def keep(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            start = message
        elif message["type"] == "http.response.body":
            body.extend(message["body"])
            if not message.get("more_body", False):
                complete.set()

    async def receive_or_complete() -> Any:
        """A stream listens until its client leaves; where there is none it must learn that it has been sent."""
        tasks = [asyncio.ensure_future(receive()), asyncio.ensure_future(complete.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else {"type": "http.disconnect"}
        finally:
            for task in tasks:
                task.cancel()

    await carry_out(scope, receive_or_complete, keep)
    return start, bytes(body)


async def reset(scope: Scope, receive: Receive) -> None:
    """Cuts the connection as a crashed vendor does; see `server.py` for how the transport gets here."""
    cast("Callable[[], None]", (scope["extensions"] or {})["sandbox.reset"])()
    # The server complains about requests that end without an answer, unless it has noticed that nobody is there.
    await client_left(receive)


async def _read_to_the_end(receive: Receive) -> None:
    """A reset that meets a client still sending looks different to it every time."""
    while (await receive()).get("more_body", False):
        pass


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
