"""Authentication of requests: an API key belongs to one team, or to an admin."""

from collections.abc import Mapping

from gateway.access.principal import Principal, make_configured_principal, make_stored_principal
from gateway.api.api_context import ApiContext, HttpRequest
from gateway.api.api_errors import ApiError
from gateway.config.value_types import sha256_hex
from gateway.store.api_keys import ApiKey, format_time

BEARER_PREFIX = "bearer "
# Headers that Azure's clients and clients of other gateways use.
API_KEY_HEADERS = ("api-key", "x-api-key")


def get_principal(http_request: HttpRequest) -> Principal:
    """Returns the authenticated principal. Only for routes that declare a scope."""
    principal: Principal = http_request.scope["state"]["principal"]
    return principal


def get_team(http_request: HttpRequest) -> str:
    """Returns the team of the authenticated principal. Only for routes that require the scope `generate` or `read`."""
    team: str = http_request.scope["state"]["team"]
    return team


async def authenticate(context: ApiContext, headers: Mapping[str, str]) -> Principal:
    """Returns the principal with the request's key. Raises ApiError (401) if there is no valid key.

    A key is looked up by its digest, so the time of the lookup reveals nothing about other keys.
    """
    key = find_api_key(headers)
    if key is None:
        message = "Missing API key. Send Authorization: Bearer <key>, or api-key: <key>."
        raise ApiError(401, "missing_api_key", message, is_retryable=False)
    if (configured := context.catalogue().configured_keys.get(sha256_hex(key))) is not None:
        return make_configured_principal(configured)
    registry = context.key_registry
    stored = registry.find_key(key) or await registry.find_recent_key(key)
    if stored is None:
        message = "Invalid API key. Ask your platform team for one."
        raise ApiError(401, "invalid_api_key", message, is_retryable=False)
    _require_usable_key(context, stored)
    registry.record_use(stored)
    return make_stored_principal(stored)


def _require_usable_key(context: ApiContext, key: ApiKey) -> None:
    """Raises ApiError if the key cannot be used. Only a client that has the whole key learns why."""
    status = key.get_status(context.wall_clock())
    if status == "revoked":
        raise make_key_revoked_error(key.id)
    if status == "expired":
        message = f"API key {key.id} expired at {format_time(key.expires_at)}. Ask your platform team for a new one."
        raise ApiError(401, "api_key_expired", message, is_retryable=False)
    if key.team is not None and key.team not in context.catalogue().teams:
        message = f"Team '{key.team}' of API key {key.id} is no longer configured. Ask your platform team."
        raise ApiError(403, "team_not_configured", message, is_retryable=False)


def make_key_revoked_error(key_id: str) -> ApiError:
    message = f"API key {key_id} was revoked. Ask your platform team for a new one."
    return ApiError(401, "api_key_revoked", message, is_retryable=False)


def find_api_key(headers: Mapping[str, str]) -> str | None:
    """Returns the first key in the headers. Any further keys are ignored."""
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith(BEARER_PREFIX):
        return authorization[len(BEARER_PREFIX) :].strip()
    return next((key.strip() for name in API_KEY_HEADERS if (key := headers.get(name))), None)
