"""The control routes `/_/`: requests received, charges, injected faults."""

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

from sandbox import image_renderer, switches
from sandbox.charges import format_usd, parse_usd
from sandbox.fault_injection import FAULT_DESCRIPTIONS, FaultRule, InjectedFault
from sandbox.order_simulator import Latency
from sandbox.state import SandboxState
from sandbox.vendors import RouteKind, Vendor

ControlRequest = Request[object, object, State]


class LatencyChange(Struct, forbid_unknown_fields=True, kw_only=True):
    median: Annotated[float, Meta(ge=0)]
    spread: Annotated[float, Meta(ge=0)] = 0.0
    vendor: Vendor | None = None
    quality: str | None = None


class OrderSelection(Struct, forbid_unknown_fields=True, kw_only=True):
    vendor: Vendor | None = None


class BalanceChange(Struct, forbid_unknown_fields=True, kw_only=True):
    vendor: Vendor
    usd: str | float


def _decode_body(body: bytes, type_: Any) -> Any:
    """Decodes strictly: a misspelt control request must be rejected."""
    try:
        return msgspec.json.decode(body or b"{}", type=type_)
    except (msgspec.DecodeError, RecursionError) as error:
        raise HTTPException(status_code=400, detail=str(error)) from error


@get("/")
async def show_index() -> dict[str, Any]:
    """Lists the control routes."""
    return {
        "GET /_/charges": "the invoice: every charge, oldest first; beyond a million the oldest are `dropped`",
        "POST /_/faults": "add a fault rule: {kind, vendor?, route?, times?, probability?, …}",
        "GET /_/faults": "the active fault rules",
        "DELETE /_/faults": "remove all fault rules",
        "POST /_/latency": "{vendor?, quality?, median, spread} in seconds",
        "POST /_/finish": "{vendor?}: finish all orders now, and send responses that `slow` delays; stuck orders stay",
        "POST /_/balance": "{vendor, usd}: set the remaining credit",
        "GET /_/balance": "remaining, reserved and spent credit of each vendor",
        "POST /_/switches": "{vendor: {switch: value}}: behaviour where the vendors' documentation is ambiguous",
        "GET /_/switches": "every switch and its value",
        "GET /_/requests": "the last requests to the vendors",
        "GET /_/health": "number of tasks, orders and charges, and peak memory",
        "GET /_/sample.png?w=&h=": "a sample image to edit",
        "POST /_/reset": "delete all state but the switches",
        "kinds": FAULT_DESCRIPTIONS,
        "routes": list(RouteKind),
        "vendors": list(Vendor),
    }


@get("/charges")
async def list_charges(state: State) -> dict[str, Any]:
    sandbox: SandboxState = state.sandbox
    sandbox.settle_all()
    # Each vendor's charges are settled when they are read, so they come one vendor after the other.
    sorted_charges = sorted(sandbox.invoice.charges, key=lambda charge: charge.charged_at)
    return {"charges": [charge.to_json() for charge in sorted_charges], "dropped": sandbox.invoice.dropped_count}


@get("/faults")
async def list_faults(state: State) -> dict[str, Any]:
    return {"faults": state.sandbox.fault_injector.rules}


@post("/faults", status_code=201)
async def add_fault(request: ControlRequest, state: State) -> dict[str, Any]:
    body = await request.body()
    try:
        rule: FaultRule = msgspec.json.decode(body, type=FaultRule)
    except (msgspec.DecodeError, RecursionError) as error:
        raise HTTPException(status_code=400, detail=f"{error}{_suggest_kind(body)}") from error
    if problem := rule.find_problem():
        raise HTTPException(status_code=400, detail=problem)
    state.sandbox.fault_injector.add(rule)
    return {"faults": state.sandbox.fault_injector.rules}


def _suggest_kind(body: bytes) -> str:
    """Suggests the closest kind for an unknown one, or else lists all kinds."""
    try:
        kind = str(msgspec.json.decode(body).get("kind", ""))
    except (msgspec.DecodeError, RecursionError, AttributeError):
        return ""
    if kind in set(InjectedFault):
        return ""
    matches = difflib.get_close_matches(kind, list(InjectedFault), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else f"; kinds are: {', '.join(InjectedFault)}"


@delete("/faults", status_code=200)
async def clear_faults(state: State) -> dict[str, Any]:
    state.sandbox.fault_injector.clear()
    return {"faults": []}


@post("/latency", status_code=200)
async def set_latency(request: ControlRequest, state: State) -> dict[str, Any]:
    change: LatencyChange = _decode_body(await request.body(), LatencyChange)
    latency = Latency(change.median, change.spread)
    for vendor, simulator in state.sandbox.simulators.items():
        if change.vendor not in (None, vendor):
            continue
        if change.quality is None:
            simulator.latency = {"*": latency}
        else:
            simulator.latency[change.quality] = latency
    return {vendor: simulator.latency for vendor, simulator in state.sandbox.simulators.items()}


@post("/finish", status_code=200)
async def finish_orders(request: ControlRequest, state: State) -> dict[str, Any]:
    selection: OrderSelection = _decode_body(await request.body(), OrderSelection)
    for vendor, simulator in state.sandbox.simulators.items():
        if selection.vendor in (None, vendor):
            simulator.finish_orders()
    return {}


@get("/balance")
async def list_balances(state: State) -> dict[str, Any]:
    state.sandbox.settle_all()
    return {
        vendor: {
            "usd": format_usd(simulator.balance.remaining),
            "reserved_usd": format_usd(simulator.balance.reserved),
            "spent_usd": format_usd(simulator.balance.spent),
        }
        for vendor, simulator in state.sandbox.simulators.items()
    }


@post("/balance", status_code=200)
async def set_balance(request: ControlRequest, state: State) -> dict[str, Any]:
    change: BalanceChange = _decode_body(await request.body(), BalanceChange)
    try:
        amount = parse_usd(str(change.usd))
    except (ArithmeticError, ValueError) as error:
        raise HTTPException(
            status_code=400, detail=f"Invalid usd {change.usd!r}: use an amount such as 12.50"
        ) from error
    state.sandbox.settle_all()
    state.sandbox.simulators[change.vendor].balance.remaining = amount
    return {"vendor": change.vendor, "usd": format_usd(amount)}


@get("/switches")
async def list_switches(state: State) -> switches.Switches:
    result: switches.Switches = state.sandbox.switches
    return result


@post("/switches", status_code=200)
async def set_switches(request: ControlRequest, state: State) -> switches.Switches:
    sandbox: SandboxState = state.sandbox
    change = _decode_body(await request.body(), dict[str, Any])
    try:
        sandbox.switches = switches.merge_switches(sandbox.switches, change)
    except msgspec.ValidationError as error:
        raise HTTPException(status_code=400, detail=str(error)) from error
    for vendor, simulator in sandbox.simulators.items():
        simulator.set_concurrency(getattr(sandbox.switches, vendor).concurrency)
    return sandbox.switches


@get("/requests")
async def list_requests(state: State) -> dict[str, Any]:
    return {"requests": [entry.to_json() for entry in state.sandbox.request_log.entries]}


@get("/health")
async def get_health(state: State) -> dict[str, Any]:
    """Reports sizes that must stay bounded while a sandbox runs for weeks."""
    sandbox: SandboxState = state.sandbox
    return {
        "tasks": len(asyncio.all_tasks()),
        "orders": sum(len(simulator.orders) for simulator in sandbox.simulators.values()),
        "charges": len(sandbox.invoice.charges),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


Edge = Annotated[int, QueryParameter(ge=16, le=4096)]


@get("/sample.png")
async def get_sample_image(w: Edge = 1024, h: Edge = 1024) -> Response[bytes]:
    png = await asyncio.to_thread(
        image_renderer.render_image, image_renderer.ImageRecipe(w, h, "png", "A sample to edit")
    )
    return Response(png, media_type="image/png")


@post("/reset", status_code=200)
async def reset_sandbox(state: State) -> dict[str, Any]:
    state.sandbox.reset()
    return {"charges": []}


control_router = Router(
    path="/_",
    route_handlers=[
        show_index,
        list_charges,
        list_faults,
        add_fault,
        clear_faults,
        set_latency,
        finish_orders,
        list_balances,
        set_balance,
        list_switches,
        set_switches,
        list_requests,
        get_health,
        get_sample_image,
        reset_sandbox,
    ],
)
