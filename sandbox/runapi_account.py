"""RunAPI's account and price routes. Prices are read by anyone, and are those that orders are charged."""

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Response, get, post

from sandbox import runapi_terms as terms
from sandbox.mischief import Route, Vendor
from sandbox.runapi_tasks import MICROS_PER_CENT, OwnState, RunapiState, moment
from sandbox.runapi_terms import Action
from sandbox.runapi_wire import HttpRequest, fields, invalid, signed_in
from sandbox.switches import RunapiSwitches

SERVICE = "gpt_image_2"
FILTERS = ("service", "action", "model")
OPT = {"route": Route.ACCOUNT}


@get("/api/v1/me", opt=OPT, guards=[signed_in])
async def me() -> dict[str, Any]:
    return {"id": 1, "name": "Sandbox", "email": "sandbox@example.com", "account": {"id": 1, "name": "Sandbox"}}


@get("/api/v1/me/balance", opt=OPT, guards=[signed_in])
async def balance(vendor: OwnState) -> dict[str, int]:
    """What running tasks have reserved is not there to be spent."""
    vendor.shop.settle()
    till = vendor.shop.balance
    left = (till.left - till.reserved) // MICROS_PER_CENT
    return {
        "balance_cents": left,
        "paid_balance_cents": left,
        "bonus_balance_cents": 0,
        "spent_cents_today": _spent_today(vendor) // MICROS_PER_CENT,
        "spent_cents_total": till.spent // MICROS_PER_CENT,
    }


def _spent_today(vendor: RunapiState) -> int:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    lines = vendor.world.invoice.lines
    return sum(line.micros for line in lines if line.vendor == Vendor.RUNAPI and line.at >= midnight)


@get("/api/v1/price_schedules", opt=OPT)
async def price_schedules(request: HttpRequest, vendor: OwnState) -> Response[Any]:
    schedules = [_schedule(action, vendor.switches) for action in Action]
    matching = [schedule for schedule in schedules if _matches(schedule, request.query_params)]
    etag = f'"{hashlib.sha256(msgspec.json.encode(matching)).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == etag:
        return Response(None, status_code=304, headers={"etag": etag})
    return Response({"as_of": moment(time.time()), "price_schedules": matching}, headers={"etag": etag})


def _matches(schedule: dict[str, Any], query: Mapping[str, str]) -> bool:
    return all(_name(schedule[name]) == _name(query[name]) for name in FILTERS if query.get(name))


def _name(spelled: object) -> str:
    """It is not known whether the vendor wants a name with dashes or underscores: either will do."""
    return str(spelled).replace("-", "_")


def _schedule(action: Action, switches: RunapiSwitches) -> dict[str, Any]:
    prices = {tier: terms.price(action, tier, switches) // MICROS_PER_CENT for tier in terms.PRICES}
    base = prices["1k"]
    overrides = {tier: cents for tier, cents in prices.items() if cents != base}
    return {
        "service": SERVICE,
        "action": action,
        "model": terms.MODEL,
        "pricing_status": "priced",
        "catalog_status": "active",
        "currency": "USD",
        "billing_unit": "call",
        "billing_strategy": "per_call",
        "unit_price_cents": base,
        "billing_config": {"key": "output_resolution", "overrides": overrides} if overrides else None,
    }


@post("/api/v1/price_quotes", opt=OPT)
async def price_quote(request: HttpRequest, vendor: OwnState) -> Response[dict[str, Any]]:
    asked = fields(await request.body())
    params = asked.get("params") or {}
    resolution = (params.get("output_resolution") or "1k") if isinstance(params, dict) else None
    if problems := _quote_problems(asked, resolution):
        raise invalid(problems)
    action = Action(_name(asked["action"]))
    quote = {
        "service": SERVICE,
        "action": action,
        "model": terms.MODEL,
        "pricing_status": "priced",
        "currency": "USD",
        "reservation_amount_cents": terms.price(action, str(resolution), vendor.switches) // MICROS_PER_CENT,
        "estimate_basis": "params",
        "as_of": moment(time.time()),
    }
    return Response({"price_quote": quote}, status_code=200)


def _quote_problems(asked: dict[str, Any], resolution: object) -> dict[str, list[str]]:
    found = {}
    if _name(asked.get("service")) != SERVICE:
        found["service"] = ["is unknown"]
    if _name(asked.get("action")) not in set(Action):
        found["action"] = ["is unknown"]
    if asked.get("model") not in (None, terms.MODEL):
        found["model"] = ["is unknown"]
    if resolution not in tuple(terms.PRICES):
        found["params"] = [f"output_resolution must be one of: {', '.join(terms.PRICES)}"]
    return found


HANDLERS = [me, balance, price_schedules, price_quote]
