"""The `/_/` routes: what the sandbox was asked and charged, and how it is told to misbehave."""

import asyncio
import difflib
import resource
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.params import QueryParameter
from msgspec import Meta, Struct

from sandbox import pictures, switches
from sandbox.charges import dollars, micros
from sandbox.mischief import MEANING, Kind, Route, Rule, Vendor
from sandbox.shop import Latency
from sandbox.world import World

HttpRequest = Request[object, object, State]


class LatencyChange(Struct, forbid_unknown_fields=True, kw_only=True):
    median: Annotated[float, Meta(ge=0)]
    spread: Annotated[float, Meta(ge=0)] = 0.0
    vendor: Vendor | None = None
    quality: str | None = None


class BalanceChange(Struct, forbid_unknown_fields=True, kw_only=True):
    vendor: Vendor
    usd: str | float


def _decoded(body: bytes, type_: Any) -> Any:
    """Strict: a misspelt control request must not pass for obeyed."""
    try:
        return msgspec.json.decode(body or b"{}", type=type_)
    except (msgspec.DecodeError, RecursionError) as error:
        raise HTTPException(status_code=400, detail=str(error)) from error


@get("/")
async def index() -> dict[str, Any]:
    """What can be asked here."""
    return {
        "GET /_/charges": "the invoice: every charge, oldest first; beyond a million the oldest are `forgotten`",
        "POST /_/faults": "adds a rule: {kind, vendor?, route?, times?, probability?, …}",
        "GET /_/faults": "the rules in force",
        "DELETE /_/faults": "back to good behaviour",
        "POST /_/latency": "{vendor?, quality?, median, spread} in seconds",
        "POST /_/balance": "{vendor, usd}: what is left on the account",
        "GET /_/balance": "what is left, reserved and spent at each vendor",
        "POST /_/switches": "{vendor: {switch: value}}: which reading of a disputed page is followed",
        "GET /_/switches": "every switch and its setting",
        "GET /_/requests": "the last requests the vendors were sent",
        "GET /_/health": "that the sandbox is alive, and how much it holds",
        "GET /_/sample.png?w=&h=": "a picture to use as an edit's input",
        "POST /_/reset": "forget everything but the switches",
        "kinds": MEANING,
        "routes": list(Route),
        "vendors": list(Vendor),
    }


@get("/charges")
async def charges(state: State) -> dict[str, Any]:
    world: World = state.world
    world.settle()
    # Each vendor's charges are settled when somebody looks, and so come one vendor after the other.
    lines = sorted(world.invoice.lines, key=lambda charge: charge.at)
    return {"charges": [charge.line() for charge in lines], "forgotten": world.invoice.forgotten}


@get("/faults")
async def list_faults(state: State) -> dict[str, Any]:
    return {"faults": state.world.mischief.rules}


@post("/faults", status_code=201)
async def add_fault(request: HttpRequest, state: State) -> dict[str, Any]:
    body = await request.body()
    try:
        rule: Rule = msgspec.json.decode(body, type=Rule)
    except (msgspec.DecodeError, RecursionError) as error:
        raise HTTPException(status_code=400, detail=f"{error}{_meant(body)}") from error
    if problem := rule.problem():
        raise HTTPException(status_code=400, detail=problem)
    state.world.mischief.add(rule)
    return {"faults": state.world.mischief.rules}


def _meant(body: bytes) -> str:
    """For a misspelt kind: the one that was probably meant, and all the others."""
    try:
        kind = str(msgspec.json.decode(body).get("kind", ""))
    except (msgspec.DecodeError, RecursionError, AttributeError):
        return ""
    if kind in set(Kind):
        return ""
    close = difflib.get_close_matches(kind, list(Kind), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; kinds are: {', '.join(Kind)}"


@delete("/faults", status_code=200)
async def clear_faults(state: State) -> dict[str, Any]:
    state.world.mischief.clear()
    return {"faults": []}


@post("/latency", status_code=200)
async def set_latency(request: HttpRequest, state: State) -> dict[str, Any]:
    change: LatencyChange = _decoded(await request.body(), LatencyChange)
    latency = Latency(change.median, change.spread)
    for vendor, shop in state.world.shops.items():
        if change.vendor not in (None, vendor):
            continue
        if change.quality is None:
            shop.latency = {"*": latency}
        else:
            shop.latency[change.quality] = latency
    return {vendor: shop.latency for vendor, shop in state.world.shops.items()}


@get("/balance")
async def balances(state: State) -> dict[str, Any]:
    state.world.settle()
    return {
        vendor: {
            "usd": dollars(shop.balance.left),
            "reserved_usd": dollars(shop.balance.reserved),
            "spent_usd": dollars(shop.balance.spent),
        }
        for vendor, shop in state.world.shops.items()
    }


@post("/balance", status_code=200)
async def set_balance(request: HttpRequest, state: State) -> dict[str, Any]:
    change: BalanceChange = _decoded(await request.body(), BalanceChange)
    try:
        amount = micros(str(change.usd))
    except (ArithmeticError, ValueError) as error:
        raise HTTPException(status_code=400, detail=f"usd must be an amount, not {change.usd!r}") from error
    state.world.settle()
    state.world.shops[change.vendor].balance.left = amount
    return {"vendor": change.vendor, "usd": dollars(amount)}


@get("/switches")
async def list_switches(state: State) -> switches.Switches:
    result: switches.Switches = state.world.switches
    return result


@post("/switches", status_code=200)
async def turn_switches(request: HttpRequest, state: State) -> switches.Switches:
    world: World = state.world
    change = _decoded(await request.body(), dict[str, Any])
    try:
        world.switches = switches.turned(world.switches, change)
    except msgspec.ValidationError as error:
        raise HTTPException(status_code=400, detail=str(error)) from error
    for vendor, shop in world.shops.items():
        shop.resize(getattr(world.switches, vendor).concurrency)
    return world.switches


@get("/requests")
async def requests(state: State) -> dict[str, Any]:
    return {"requests": [entry.shown() for entry in state.world.requests.entries]}


@get("/health")
async def health(state: State) -> dict[str, Any]:
    """For whoever keeps a sandbox running for weeks: none of these should grow without end."""
    world: World = state.world
    return {
        "tasks": len(asyncio.all_tasks()),
        "orders": sum(len(shop.orders) for shop in world.shops.values()),
        "charges": len(world.invoice.lines),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


Edge = Annotated[int, QueryParameter(ge=16, le=4096)]


@get("/sample.png")
async def sample(w: Edge = 1024, h: Edge = 1024) -> Response[bytes]:
    drawn = await asyncio.to_thread(pictures.draw, pictures.Picture(w, h, "png", "A sample to edit"))
    return Response(drawn, media_type="image/png")


@post("/reset", status_code=200)
async def reset(state: State) -> dict[str, Any]:
    state.world.open()
    return {"charges": []}


control = Router(
    path="/_",
    route_handlers=[
        index,
        charges,
        list_faults,
        add_fault,
        clear_faults,
        set_latency,
        balances,
        set_balance,
        list_switches,
        turn_switches,
        requests,
        health,
        sample,
        reset,
    ],
)
