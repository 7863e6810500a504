"""RunAPI's account and price routes. Prices are public, and equal those that orders are charged."""

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Response, get, post

from sandbox.http_requests import HttpRequest
from sandbox.runapi import order_rules
from sandbox.runapi.http_helpers import parse_json_object, require_api_key, validation_error
from sandbox.runapi.order_rules import TaskAction
from sandbox.runapi.tasks import MICROS_PER_CENT, InjectedState, RunapiState, format_timestamp
from sandbox.switches import RunapiSwitches
from sandbox.vendors import RouteKind, Vendor

SERVICE = "gpt_image_2"
FILTERS = ("service", "action", "model")
ROUTE_OPTIONS = {"route": RouteKind.ACCOUNT}


@get("/api/v1/me", opt=ROUTE_OPTIONS, guards=[require_api_key])
async def get_user() -> dict[str, Any]:
    return {"id": 1, "name": "Sandbox", "email": "sandbox@example.com", "account": {"id": 1, "name": "Sandbox"}}


@get("/api/v1/me/balance", opt=ROUTE_OPTIONS, guards=[require_api_key])
async def get_balance(vendor: InjectedState) -> dict[str, int]:
    """Returns the balance without the amounts reserved by running tasks."""
    vendor.simulator.settle_finished()
    vendor_balance = vendor.simulator.balance
    available_cents = (vendor_balance.remaining - vendor_balance.reserved) // MICROS_PER_CENT
    return {
        "balance_cents": available_cents,
        "paid_balance_cents": available_cents,
        "bonus_balance_cents": 0,
        "spent_cents_today": _sum_spent_today(vendor) // MICROS_PER_CENT,
        "spent_cents_total": vendor_balance.spent // MICROS_PER_CENT,
    }


def _sum_spent_today(vendor: RunapiState) -> int:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    charges = vendor.sandbox.invoice.charges
    return sum(charge.micros for charge in charges if charge.vendor == Vendor.RUNAPI and charge.charged_at >= midnight)


@get("/api/v1/price_schedules", opt=ROUTE_OPTIONS)
async def list_price_schedules(request: HttpRequest, vendor: InjectedState) -> Response[Any]:
    schedules = [_build_schedule(action, vendor.switches) for action in TaskAction]
    matching = [schedule for schedule in schedules if _matches_query(schedule, request.query_params)]
    etag = f'"{hashlib.sha256(msgspec.json.encode(matching)).hexdigest()[:32]}"'
    if request.headers.get("if-none-match") == etag:
        return Response(None, status_code=304, headers={"etag": etag})
    return Response({"as_of": format_timestamp(time.time()), "price_schedules": matching}, headers={"etag": etag})


def _matches_query(schedule: dict[str, Any], query: Mapping[str, str]) -> bool:
    return all(_normalize_name(schedule[name]) == _normalize_name(query[name]) for name in FILTERS if query.get(name))


def _normalize_name(name: object) -> str:
    """Accepts dashes and underscores, since it is unknown which ones the vendor requires."""
    return str(name).replace("-", "_")


def _build_schedule(action: TaskAction, switches: RunapiSwitches) -> dict[str, Any]:
    prices = {tier: order_rules.get_price(action, tier, switches) // MICROS_PER_CENT for tier in order_rules.PRICES}
    base = prices["1k"]
    overrides = {tier: cents for tier, cents in prices.items() if cents != base}
    return {
        "service": SERVICE,
        "action": action,
        "model": order_rules.MODEL,
        "pricing_status": "priced",
        "catalog_status": "active",
        "currency": "USD",
        "billing_unit": "call",
        "billing_strategy": "per_call",
        "unit_price_cents": base,
        "billing_config": {"key": "output_resolution", "overrides": overrides} if overrides else None,
    }


@post("/api/v1/price_quotes", opt=ROUTE_OPTIONS)
async def create_price_quote(request: HttpRequest, vendor: InjectedState) -> Response[dict[str, Any]]:
    body = parse_json_object(await request.body())
    params = body.get("params") or {}
    resolution = (params.get("output_resolution") or "1k") if isinstance(params, dict) else None
    if problems := _find_quote_problems(body, resolution):
        raise validation_error(problems)
    action = TaskAction(_normalize_name(body["action"]))
    quote = {
        "service": SERVICE,
        "action": action,
        "model": order_rules.MODEL,
        "pricing_status": "priced",
        "currency": "USD",
        "reservation_amount_cents": order_rules.get_price(action, str(resolution), vendor.switches) // MICROS_PER_CENT,
        "estimate_basis": "params",
        "as_of": format_timestamp(time.time()),
    }
    return Response({"price_quote": quote}, status_code=200)


def _find_quote_problems(body: dict[str, Any], resolution: object) -> dict[str, list[str]]:
    problems = {}
    if _normalize_name(body.get("service")) != SERVICE:
        problems["service"] = ["is unknown"]
    if _normalize_name(body.get("action")) not in set(TaskAction):
        problems["action"] = ["is unknown"]
    if body.get("model") not in (None, order_rules.MODEL):
        problems["model"] = ["is unknown"]
    if resolution not in tuple(order_rules.PRICES):
        problems["params"] = [f"output_resolution must be one of: {', '.join(order_rules.PRICES)}"]
    return problems


HANDLERS = [get_user, get_balance, list_price_schedules, create_price_quote]
