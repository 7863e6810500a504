"""Runflow's account routes: organization, balance, callback secrets, health."""

from typing import Any

from litestar import delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from sandbox.charges import format_usd
from sandbox.http_requests import HttpRequest
from sandbox.order_simulator import OrderSimulator
from sandbox.runflow.callbacks import CallbackSecret
from sandbox.runflow.http_helpers import (
    RunflowError,
    build_field_error,
    format_timestamp,
    get_switches,
    parse_json_object,
    validation_error,
)
from sandbox.runflow.runs import ORG_ID
from sandbox.vendors import RouteKind, Vendor

ROUTE_OPTIONS = {"route": RouteKind.ACCOUNT}
MAX_LABEL_CHARACTERS = 255
VISIBLE_PREFIX_CHARACTERS = 10


def _get_simulator(state: State) -> OrderSimulator:
    simulator: OrderSimulator = state.sandbox.simulators[Vendor.RUNFLOW]
    simulator.settle_finished()
    return simulator


def _get_secrets(state: State) -> list[CallbackSecret]:
    secrets: list[CallbackSecret] = state.sandbox.vendor_states[Vendor.RUNFLOW].callbacks.secrets
    return secrets


@get("/v1/health", opt=ROUTE_OPTIONS)
async def get_health() -> dict[str, str]:
    return {"status": "ok"}


@get("/v1/auth/me", opt=ROUTE_OPTIONS)
async def get_organization() -> dict[str, Any]:
    return {"id": ORG_ID, "org_id": ORG_ID, "name": "Sandbox"}


@get("/v1/billing/balance", opt=ROUTE_OPTIONS)
async def get_balance(request: HttpRequest, state: State) -> dict[str, Any]:
    remaining = _get_simulator(state).balance.remaining
    if get_switches(request).balance_body == "balance_cents":
        return {"balance_cents": remaining // 10_000, "currency": "USD"}
    return {
        "id": ORG_ID,
        "org_id": ORG_ID,
        "balance": format_usd(remaining),
        "low_balance_threshold": None,
        "low_balance_notified_at": None,
        "created_at": None,
        "updated_at": None,
    }


@get("/v1/credit-balances", opt=ROUTE_OPTIONS)
async def list_credit_balances(state: State) -> dict[str, Any]:
    return {"items": [{"balance_usd": format_usd(_get_simulator(state).balance.remaining)}]}


@post("/v1/callback-secrets", status_code=201, opt=ROUTE_OPTIONS)
async def create_secret(request: HttpRequest, state: State) -> dict[str, Any]:
    """Creates a secret. The newest one signs; older ones are kept until they are deleted."""
    label = parse_json_object(await request.body() or b"{}").get("label")
    if label is not None and not (isinstance(label, str) and len(label) <= MAX_LABEL_CHARACTERS):
        raise validation_error(
            build_field_error(f"Input should be a string of at most {MAX_LABEL_CHARACTERS} characters", "label")
        )
    secret = CallbackSecret.create(label)
    _get_secrets(state).append(secret)
    return {"plain_secret": secret.value, **_serialize_secret(state, secret)}


@get("/v1/callback-secrets", opt=ROUTE_OPTIONS)
async def list_secrets(state: State) -> dict[str, Any]:
    return {"items": [_serialize_secret(state, secret) for secret in _get_secrets(state)]}


@delete("/v1/callback-secrets/{secret_id:str}", status_code=204, opt=ROUTE_OPTIONS)
async def delete_secret(state: State, secret_id: FromPath[str]) -> None:
    secrets = _get_secrets(state)
    if not any(secret.id == secret_id for secret in secrets):
        raise RunflowError(404, "CALLBACK_SECRET_NOT_FOUND")
    secrets[:] = [secret for secret in secrets if secret.id != secret_id]


def _serialize_secret(state: State, secret: CallbackSecret) -> dict[str, Any]:
    return {
        "id": secret.id,
        "org_id": ORG_ID,
        "key_prefix": secret.value[:VISIBLE_PREFIX_CHARACTERS],
        "is_current": secret is _get_secrets(state)[-1],
        "label": secret.label,
        "disabled_at": None,
        "last_used_at": None,
        "created_at": format_timestamp(secret.created_at),
        "updated_at": format_timestamp(secret.created_at),
    }


HANDLERS = [get_organization, get_balance, list_credit_balances, create_secret, list_secrets, delete_secret]
