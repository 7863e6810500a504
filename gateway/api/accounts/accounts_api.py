"""`GET /v1/admin/accounts`: the accounts at sellers, whether they are refused, and their balances."""

from typing import Any

from litestar import Response, get

from gateway.api.access_control import ADMIN
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.json_responses import json_response
from gateway.api.query_params import read_query_params
from gateway.catalogue import Catalogue, SellerAccount
from gateway.engine.account_checker import get_recent_balance
from gateway.engine.account_events import REMEDIES
from gateway.engine.engine_context import EngineContext
from gateway.health.account_check import FAULTS_BY_REFUSAL
from gateway.money import MICROS_PER_USD

ACCOUNTS_PATH = "/v1/admin/accounts"


@get(ACCOUNTS_PATH, opt=ADMIN)
async def list_accounts(request: HttpRequest) -> Response[bytes]:
    """Lists the accounts at sellers."""
    context = get_context(request)
    read_query_params(request)
    catalogue = context.catalogue()
    data = [_serialize_account(context.engine.context, catalogue, account) for account in catalogue.accounts.values()]
    return json_response({"object": "list", "data": data}, 200, {})


def _serialize_account(context: EngineContext, catalogue: Catalogue, account: SellerAccount) -> dict[str, Any]:
    now, check = context.wall_clock(), context.health.get_account_check(account.name)
    refusal = context.health.get_account_refusal(account.name, now)
    return {
        "object": "account",
        "name": account.name,
        "sellers": [seller.name for seller in catalogue.sellers.values() if seller.account.name == account.name],
        "region": account.region,
        "enabled": account.api_key is not None,
        "circuit_breaker": context.health.get_account_breaker_state(account.name, now).name.lower(),
        "refusal": FAULTS_BY_REFUSAL.get(refusal),
        "remedy": REMEDIES.get(refusal),
        "balance": _to_usd(get_recent_balance(context, account.name)),
        "low_balance": _to_usd(account.low_balance),
        "checked_at": int(check.checked_at) if check and check.checked_at else None,
    }


def _to_usd(amount: int | None) -> float | None:
    return None if amount is None else amount / MICROS_PER_USD


ACCOUNT_HANDLERS = [list_accounts]
