"""RunAPI's account and price routes. Prices are read by anyone, and are those that orders are charged."""

import hashlib
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Response, get, post

from sandbox import runapi_terms as terms
from sandbox.mischief import Route, Vendor
from sandbox.runapi_tasks import MICROS_PER_CENT, RunapiState, moment
from sandbox.runapi_terms import Action
from sandbox.runapi_wire import HttpRequest, fields, invalid, signed_in
from sandbox.switches import RunapiSwitches

SERVICE = "gpt_image_2"
OPT = {"route": Route.ACCOUNT}


@get("/api/v1/me", opt=OPT, guards=[signed_in])
async def me() -> dict[str, Any]:
    return {"id": 1, "name": "Sandbox", "email": "sandbox@example.com", "account": {"id": 1, "name": "Sandbox"}}


@get("/api/v1/me/balance", opt=OPT, guards=[signed_in])
async def balance(shop: RunapiState) -> dict[str, int]:
    """What running tasks have reserved is not there to be spent."""
    shop.shop.settle()
    till = shop.shop.balance
    left = (till.left - till.reserved) // MICROS_PER_CENT
    return {
        "balance_cents": left,
        "paid_balance_cents": left,
        "bonus_balance_cents": 0,
        "spent_cents_today": _spent_today(shop) // MICROS_PER_CENT,
        "spent_cents_total": till.spent // MICROS_PER_CENT,
    }


def _spent_today(shop: RunapiState) -> int:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    lines = shop.world.invoice.lines
    return sum(line.micros for line in lines if line.vendor == Vendor.RUNAPI and line.at >= midnight)


@get("/api/v1/price_schedules", opt=OPT)
async def price_schedules(request: HttpRequest, shop: RunapiState) -> Response[Any]:
    asked = {name: value.replace("-", "_") for name, value in request.query_params.items() if value}
    schedules = [_schedule(action, shop.switches) for action in Action]
    matching = [schedule for schedule in schedules if _matches(schedule, asked)]
    etag = f'"{hashlib.sha256(msgspec.json.encode(matching)).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == etag:
        return Response(None, status_code=304, headers={"etag": etag})
    return Response({"as_of": moment(time.time()), "price_schedules": matching}, headers={"etag": etag})


def _matches(schedule: dict[str, Any], asked: dict[str, str]) -> bool:
    """Both spellings of a name are understood, as it is not known which one the vendor wants."""
    return all(schedule[name].replace("-", "_") == asked.get(name, schedule[name].replace("-", "_")) for name in NAMES)


NAMES = ("service", "action", "model")


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
async def price_quote(request: HttpRequest, shop: RunapiState) -> Response[dict[str, Any]]:
    asked = fields(await request.body())
    params = asked.get("params") or {}
    resolution = (params.get("output_resolution") or "1k") if isinstance(params, dict) else None
    if problems := _quote_problems(asked, resolution):
        raise invalid(problems)
    action = Action(asked["action"].replace("-", "_"))
    quote = {
        "service": SERVICE,
        "action": action,
        "model": terms.MODEL,
        "pricing_status": "priced",
        "currency": "USD",
        "reservation_amount_cents": terms.price(action, str(resolution), shop.switches) // MICROS_PER_CENT,
        "estimate_basis": "params",
        "as_of": moment(time.time()),
    }
    return Response({"price_quote": quote}, status_code=200)


def _quote_problems(asked: dict[str, Any], resolution: object) -> dict[str, list[str]]:
    found = {}
    if str(asked.get("service")).replace("-", "_") != SERVICE:
        found["service"] = ["is unknown"]
    if str(asked.get("action")).replace("-", "_") not in set(Action):
        found["action"] = ["is unknown"]
    if asked.get("model") not in (None, terms.MODEL):
        found["model"] = ["is unknown"]
    if resolution not in tuple(terms.PRICES):
        found["params"] = [f"output_resolution must be one of: {', '.join(terms.PRICES)}"]
    return found


HANDLERS = [me, balance, price_schedules, price_quote]
