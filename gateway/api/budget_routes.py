"""The admin API of budgets: what is left of each, and temporary overrides."""

from litestar import Response, delete, get, post

from gateway.access.budget_administration import (
    OverrideNotFound,
    RaiseBudgetRequest,
    serialize_budget,
    serialize_override,
)
from gateway.api.access_control import ADMIN
from gateway.api.admin_api import list_response, make_admin, parse_body, translate_errors
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.json_responses import json_response
from gateway.api.query_params import read_query_params

BUDGETS_PATH = "/v1/admin/budgets"


@get(BUDGETS_PATH, opt=ADMIN)
async def list_budgets(request: HttpRequest) -> Response[bytes]:
    """Lists the limits of teams and API keys with what is spent, held and left; with `?team=`, those of a team."""
    teams = read_query_params(request, "team")["team"] or None
    states = await get_context(request).budget_administration.list_budgets(teams)
    return list_response([serialize_budget(state) for state in states])


@post(BUDGETS_PATH, status_code=201, opt=ADMIN)
async def raise_budget(request: HttpRequest) -> Response[bytes]:
    """Raises a limit for a while, at once on all replicas."""
    body = await parse_body(request, RaiseBudgetRequest)
    with translate_errors():
        override = await get_context(request).budget_administration.raise_budget(body, make_admin(request))
    return json_response(serialize_override(override), 201, {})


@delete(f"{BUDGETS_PATH}/{{override_id:str}}", status_code=200, opt=ADMIN)
async def end_budget_override(request: HttpRequest, override_id: str) -> Response[bytes]:
    """Ends an override at once. Jobs that were accepted continue."""
    try:
        override = await get_context(request).budget_administration.end_override(override_id, make_admin(request))
    except OverrideNotFound:
        message = "Budget override not found. List them with GET /v1/admin/budgets."
        raise ApiError(404, "budget_override_not_found", message) from None
    return json_response(serialize_override(override), 200, {})


BUDGET_HANDLERS = [list_budgets, raise_budget, end_budget_override]
