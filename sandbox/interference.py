"""Applies the faults of `mischief.py` that happen on the wire, and keeps the list of what was asked."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from sandbox.mischief import WIRE_KINDS, Kind, Route, Rule, Vendor
from sandbox.world import World

PROXY_PAGE = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


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
        if rule.kind is Kind.RESET_BEFORE:
            reset(scope)
        elif rule.kind is Kind.RESET_AFTER:
            await carry_out(scope, receive, _swallow)
            reset(scope)
        elif rule.kind is Kind.TRUNCATE:
            await self._truncate(scope, receive, send, carry_out)
        elif rule.kind is Kind.SLOW:
            await self._slowly(scope, receive, send, carry_out)
        elif rule.kind is Kind.HANG:
            await self._maybe_carry_out(scope, receive, carry_out)
            await asyncio.sleep(self._seconds(3_600))
            reset(scope)
        else:
            await self._maybe_carry_out(scope, receive, carry_out)
            await self._answer(send)

    def _seconds(self, default: float) -> float:
        return default if self.rule.seconds is msgspec.UNSET else self.rule.seconds

    async def _maybe_carry_out(self, scope: Scope, receive: Receive, carry_out: ASGIApp) -> None:
        if self.rule.accepted and self.rule.kind is not Kind.REFUSE:
            await carry_out(scope, receive, _swallow)

    async def _answer(self, send: Send) -> None:
        rule = self.rule
        default = {Kind.REFUSE: 422, Kind.HTML: 502}.get(rule.kind, 500)
        status = default if rule.status is msgspec.UNSET else rule.status
        if rule.kind is Kind.HTML:
            body, media_type = rule.body.encode() if rule.body else PROXY_PAGE, "text/html"
        elif rule.body is not None:
            body, media_type = rule.body.encode(), "application/json"
        else:
            body, media_type = (
                msgspec.json.encode(self.error_body(status, rule.code, rule.message)),
                "application/json",
            )
        headers = {"content-type": media_type, "content-length": str(len(body)), **_lower(rule.headers)}
        await _send(send, status, headers, body)

    async def _slowly(self, scope: Scope, receive: Receive, send: Send, carry_out: ASGIApp) -> None:
        seconds = self._seconds(2)
        if not self.rule.drip:
            await asyncio.sleep(seconds)
            await carry_out(scope, receive, send)
            return

        async def drip(message: Message) -> None:
            if message["type"] != "http.response.body" or not message["body"]:
                await send(message)
                return
            body = message["body"]
            for at in range(len(body)):
                more = at + 1 < len(body) or message.get("more_body", False)
                await send({"type": "http.response.body", "body": body[at : at + 1], "more_body": more})
                await asyncio.sleep(seconds / len(body))

        await carry_out(scope, receive, drip)

    async def _truncate(self, scope: Scope, receive: Receive, send: Send, carry_out: ASGIApp) -> None:
        async def cut(message: Message) -> None:
            if message["type"] == "http.response.body":
                body = message.get("body", b"")
                await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            else:
                await send(message)

        await carry_out(scope, receive, cut)
        # Give the half that was sent time to leave before the reset overtakes it.
        await asyncio.sleep(0.05)
        reset(scope)


def reset(scope: Scope) -> None:
    """Cuts the connection as a crashed vendor does; see `server.py` for how the transport gets here."""
    cast("Callable[[], None]", (scope["extensions"] or {})["sandbox.reset"])()


async def _swallow(message: Message) -> None:
    """Where answers go that the client never gets to see."""


async def _send(send: Send, status: int, headers: Mapping[str, str], body: bytes) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
