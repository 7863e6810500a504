"""The admin API: API keys, teams and the events of what admins did. For admin keys only."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from litestar import Response, delete, get, patch, post
from msgspec import Struct, to_builtins

from gateway.access.key_administration import (
    Admin,
    ApiKeyConfigured,
    ApiKeyInactive,
    ApiKeyNotFound,
    CreatedKey,
    InvalidKeyOption,
    ListedKey,
)
from gateway.access.key_requests import (
    FIXED_OPTIONS,
    ChangeKeyRequest,
    CreateKeyRequest,
    RotateKeyRequest,
    parse_duration,
    serialize_event,
    serialize_key,
)
from gateway.api.access_control import ADMIN
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_principal
from gateway.api.json_responses import json_response
from gateway.api.query_params import parse_limit, read_query_params
from gateway.api.request_body_reader import MAX_BODY_BYTES_WITHOUT_IMAGES, parse_json_object, read_body, to_struct
from gateway.config.schema import TeamConfig
from gateway.events import ApiKeyChanged
from gateway.jobs.budgets import WindowKind, get_window
from gateway.money import MICROS_PER_USD
from gateway.store.api_keys import ApiKey
from gateway.store.budget_balances import load_balance
from gateway.store.ledger_totals import BudgetBalance
from gateway.suggestions import end_sentence

KEYS_PATH, EVENTS_PATH, TEAMS_PATH = "/v1/admin/keys", "/v1/admin/events", "/v1/admin/teams"
MAX_SOURCE_LENGTH = 200
# Of the keys and events of a page.
DEFAULT_LIMIT, MAX_LIMIT = 100, 1_000
BodyT = TypeVar("BodyT", bound=Struct)


@post(KEYS_PATH, status_code=201, opt=ADMIN)
async def create_key(request: HttpRequest) -> Response[bytes]:
    """Creates an API key. Only this response contains it."""
    context = get_context(request)
    body = await parse_body(request, CreateKeyRequest)
    with translate_errors():
        created = await context.key_administration.create_key(body.to_options(), make_admin(request))
    await _publish_change(request, "key_created", created.key)
    return _created_response(context, created)


@get(KEYS_PATH, opt=ADMIN)
async def list_keys(request: HttpRequest) -> Response[bytes]:
    """Lists API keys, the newest first; with `?team=`, those of a team. `?limit=` and `?after=` select a page."""
    context = get_context(request)
    params = read_query_params(request, "team", "limit", "after")
    limit = parse_limit(params["limit"], MAX_LIMIT, DEFAULT_LIMIT)
    listed = await context.key_administration.list_keys(get_value(params["team"]))
    start = _find_position(listed, params["after"])
    page = listed[start : start + limit]
    has_more = len(listed) > start + limit
    return list_response([serialize_key(key, context.wall_clock()) for key in page], has_more)


def get_value(values: list[str]) -> str | None:
    return values[0] if values else None


def _find_position(listed: tuple[ListedKey, ...], after: list[str]) -> int:
    """Returns the index of the first key of the page."""
    if not after:
        return 0
    ids = [entry.key.id for entry in listed]
    if after[0] not in ids:
        message = "Invalid value for 'after': no such key in this list. List again without it."
        raise ApiError(400, "invalid_value", message, param="after")
    return ids.index(after[0]) + 1


@get(f"{KEYS_PATH}/{{key_id:str}}", opt=ADMIN)
async def get_key(request: HttpRequest, key_id: str) -> Response[bytes]:
    context = get_context(request)
    with translate_errors():
        listed = await context.key_administration.get_key(key_id)
    return json_response(serialize_key(listed, context.wall_clock()), 200, {})


@patch(f"{KEYS_PATH}/{{key_id:str}}", status_code=200, opt=ADMIN)
async def change_key(request: HttpRequest, key_id: str) -> Response[bytes]:
    """Changes the options that the body contains."""
    context = get_context(request)
    try:
        body = await parse_body(request, ChangeKeyRequest)
    except ApiError as error:
        if (reason := FIXED_OPTIONS.get(error.param or "")) is None:
            raise
        message = f"'{error.param}' of an API key cannot be changed: {reason}."
        raise ApiError(400, "unsupported_parameter", message, param=error.param) from None
    with translate_errors():
        has_changed = await context.key_administration.change_key(key_id, body.to_change(), make_admin(request))
        changed = await context.key_administration.get_key(key_id)
    if has_changed:
        await _publish_change(request, "key_changed", changed.key)
    return json_response(serialize_key(changed, context.wall_clock()), 200, {})


@post(f"{KEYS_PATH}/{{key_id:str}}/rotate", status_code=201, opt=ADMIN)
async def rotate_key(request: HttpRequest, key_id: str) -> Response[bytes]:
    """Creates the successor of an API key. The old key still works for the `overlap`."""
    context = get_context(request)
    body = await parse_body(request, RotateKeyRequest)
    with translate_errors():
        overlap_seconds = parse_duration("overlap", body.overlap)
        created = await context.key_administration.rotate_key(key_id, overlap_seconds, make_admin(request))
    await _publish_change(request, "key_rotated", created.key)
    return _created_response(context, created)


@post(f"{KEYS_PATH}/{{key_id:str}}/revoke", status_code=200, opt=ADMIN)
async def revoke_key(request: HttpRequest, key_id: str) -> Response[bytes]:
    """Revokes an API key at once, and for good."""
    return await _revoke(request, key_id)


@delete(f"{KEYS_PATH}/{{key_id:str}}", status_code=200, opt=ADMIN)
async def delete_key(request: HttpRequest, key_id: str) -> Response[bytes]:
    """Revokes an API key. It stays listed as revoked."""
    return await _revoke(request, key_id)


async def _revoke(request: HttpRequest, key_id: str) -> Response[bytes]:
    context = get_context(request)
    with translate_errors():
        key = await context.key_administration.revoke_key(key_id, make_admin(request))
    await _publish_change(request, "key_revoked", key)
    return json_response(serialize_key(ListedKey(key, None), context.wall_clock()), 200, {})


@get(EVENTS_PATH, opt=ADMIN)
async def list_admin_events(request: HttpRequest) -> Response[bytes]:
    """Lists what admins did, the newest first. `?limit=` and `?after=` select a page."""
    params = read_query_params(request, "limit", "after")
    limit = parse_limit(params["limit"], MAX_LIMIT, DEFAULT_LIMIT)
    try:
        page = await get_context(request).key_administration.list_events(limit, get_value(params["after"]))
    except ValueError:
        message = "Invalid value for 'after': use 'last_id' of the previous page."
        raise ApiError(400, "invalid_value", message, param="after") from None
    return list_response([serialize_event(event) for event in page.events], page.next_cursor is not None)


@get(TEAMS_PATH, opt=ADMIN)
async def list_teams(request: HttpRequest) -> Response[bytes]:
    """Lists the configured teams with their limits and what they have spent."""
    context = get_context(request)
    read_query_params(request)
    keys = await context.key_administration.list_keys()
    now, teams = context.wall_clock(), []
    configured_counts = Counter(key.team for key in context.catalogue().configured_keys.values())
    for name, config in context.catalogue().teams.items():
        active = [key for key in keys if key.key.team == name and key.key.get_status(now) == "active"]
        key_counts = {"configured": configured_counts[name], "active": len(active)}
        windows = {kind: get_window(kind, now) for kind in WindowKind}
        balances = {kind: await load_balance(context.store, name, window) for kind, window in windows.items()}
        teams.append(_serialize_team(name, config, balances, key_counts))
    return list_response(teams)


def _serialize_team(
    name: str, config: TeamConfig, balances: Mapping[WindowKind, BudgetBalance], key_counts: dict[str, int]
) -> dict[str, Any]:
    limits = config.budget.to_limits()
    return {
        "object": "team",
        "name": name,
        "policies": list(config.policies),
        "limits": to_builtins(config.limits),
        "max_price": _to_usd(config.max_price),
        "max_cost": _to_usd(config.max_cost),
        "budget": {
            kind.value: {
                "limit": _to_usd(limits.get(kind)),
                "spent": _to_usd(balances[kind].spent),
                "held": _to_usd(balances[kind].held),
            }
            for kind in reversed(WindowKind)
        },
        "keys": key_counts,
    }


def _to_usd(amount: int | None) -> float | None:
    return None if amount is None else amount / MICROS_PER_USD


async def parse_body(request: HttpRequest, body_type: type[BodyT]) -> BodyT:
    """Parses the JSON body. An empty body has no options."""
    content_length = request.headers.get("content-length")
    body = await read_body(request.stream(), content_length, MAX_BODY_BYTES_WITHOUT_IMAGES)
    fields = parse_json_object(body, request.headers.get("content-type", "")) if body.strip() else {}
    return to_struct(fields, body_type)


async def _publish_change(request: HttpRequest, action: str, key: ApiKey) -> None:
    """Applies the change in this process at once, and logs it."""
    context, admin = get_context(request), make_admin(request)
    event = ApiKeyChanged(action=action, key=key.id, team=key.team, actor=admin.actor, source=admin.source)
    context.engine.context.emit(event)
    await context.key_registry.refresh()


def make_admin(request: HttpRequest) -> Admin:
    """Names the admin for the event: the key, and the address of the client, also as a proxy forwarded it."""
    client = request.scope.get("client")
    address = client[0] if client else "unknown"
    forwarded = "".join(char for char in request.headers.get("x-forwarded-for", "") if char.isprintable())
    source = f"{address} for {forwarded[:MAX_SOURCE_LENGTH]}" if forwarded else address
    return Admin(get_principal(request).key_id, source)


@contextmanager
def translate_errors() -> Iterator[None]:
    try:
        yield
    except InvalidKeyOption as error:
        message = end_sentence(f"Invalid value for '{error.option}': {error}")
        raise ApiError(400, "invalid_value", message, param=error.option) from None
    except ApiKeyNotFound:
        raise ApiError(404, "api_key_not_found", "API key not found. List them with GET /v1/admin/keys.") from None
    except ApiKeyConfigured as error:
        raise ApiError(409, "api_key_configured", f"{error}. Nothing was changed.") from None
    except ApiKeyInactive as error:
        raise ApiError(409, "api_key_inactive", f"{error}. Create a new one.") from None


def _created_response(context: ApiContext, created: CreatedKey) -> Response[bytes]:
    body = serialize_key(ListedKey(created.key, None), context.wall_clock())
    headers = {"location": f"{KEYS_PATH}/{created.key.id}"}
    return json_response({**body, "key": created.token}, 201, headers)


def list_response(entries: list[dict[str, Any]], has_more: bool = False) -> Response[bytes]:
    first_id, last_id = (entries[0].get("id"), entries[-1].get("id")) if entries else (None, None)
    ids = {"first_id": first_id, "last_id": last_id, "has_more": has_more}
    return json_response({"object": "list", "data": entries, **ids}, 200, {})


ADMIN_HANDLERS = [
    *(create_key, list_keys, get_key, change_key, rotate_key, revoke_key, delete_key),
    *(list_admin_events, list_teams),
]
