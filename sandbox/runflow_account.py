"""Runflow's account routes: who am I, what is left, the secrets that sign callbacks, and whether it is up."""

from typing import Any

from litestar import delete, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from sandbox.charges import dollars
from sandbox.mischief import Route, Vendor
from sandbox.runflow_callbacks import Secret
from sandbox.runflow_runs import ORG_ID
from sandbox.runflow_wire import HttpRequest, RefusalError, field_error, fields, invalid, stamp, switches_of
from sandbox.shop import Shop

ACCOUNT = {"route": Route.ACCOUNT}
MAX_LABEL = 255
SHOWN_PREFIX = 10


def _shop(state: State) -> Shop:
    shop: Shop = state.world.shops[Vendor.RUNFLOW]
    shop.settle()
    return shop


def _secrets(state: State) -> list[Secret]:
    kept: list[Secret] = state.world.vendors[Vendor.RUNFLOW].caller.secrets
    return kept


@get("/v1/health", opt=ACCOUNT)
async def health() -> dict[str, str]:
    return {"status": "ok"}


@get("/v1/auth/me", opt=ACCOUNT)
async def who_am_i() -> dict[str, Any]:
    return {"id": ORG_ID, "org_id": ORG_ID, "name": "Sandbox"}


@get("/v1/billing/balance", opt=ACCOUNT)
async def balance(request: HttpRequest, state: State) -> dict[str, Any]:
    left = _shop(state).balance.left
    if switches_of(request).balance_body == "balance_cents":
        return {"balance_cents": left // 10_000, "currency": "USD"}
    return {
        "id": ORG_ID,
        "org_id": ORG_ID,
        "balance": dollars(left),
        "low_balance_threshold": None,
        "low_balance_notified_at": None,
        "created_at": None,
        "updated_at": None,
    }


@get("/v1/credit-balances", opt=ACCOUNT)
async def credit_balances(state: State) -> dict[str, Any]:
    return {"items": [{"balance_usd": dollars(_shop(state).balance.left)}]}


@post("/v1/callback-secrets", status_code=201, opt=ACCOUNT)
async def create_secret(request: HttpRequest, state: State) -> dict[str, Any]:
    """The newest secret signs; older ones are kept until they are deleted, for receivers that still know them."""
    label = fields(await request.body() or b"{}").get("label")
    if label is not None and not (isinstance(label, str) and len(label) <= MAX_LABEL):
        raise invalid(field_error(f"Input should be a string of at most {MAX_LABEL} characters", "label"))
    secret = Secret.new(label)
    _secrets(state).append(secret)
    return {"plain_secret": secret.plain, **_shown(state, secret)}


@get("/v1/callback-secrets", opt=ACCOUNT)
async def list_secrets(state: State) -> dict[str, Any]:
    return {"items": [_shown(state, secret) for secret in _secrets(state)]}


@delete("/v1/callback-secrets/{secret_id:str}", status_code=204, opt=ACCOUNT)
async def delete_secret(state: State, secret_id: FromPath[str]) -> None:
    kept = _secrets(state)
    if not any(secret.id == secret_id for secret in kept):
        raise RefusalError(404, "CALLBACK_SECRET_NOT_FOUND")
    kept[:] = [secret for secret in kept if secret.id != secret_id]


def _shown(state: State, secret: Secret) -> dict[str, Any]:
    return {
        "id": secret.id,
        "org_id": ORG_ID,
        "key_prefix": secret.plain[:SHOWN_PREFIX],
        "is_current": secret is _secrets(state)[-1],
        "label": secret.label,
        "disabled_at": None,
        "last_used_at": None,
        "created_at": stamp(secret.created),
        "updated_at": stamp(secret.created),
    }


HANDLERS = [who_am_i, balance, credit_balances, create_secret, list_secrets, delete_secret]
