"""Authentication of requests: an API key belongs to one team, or to an admin."""

from collections.abc import Mapping

from gateway.access.caller import Caller, make_configured_caller
from gateway.api.api_context import HttpRequest
from gateway.api.api_errors import ApiError
from gateway.catalogue import Catalogue
from gateway.config.value_types import sha256_hex

BEARER_PREFIX = "bearer "
# Headers that Azure's clients and clients of other gateways use.
API_KEY_HEADERS = ("api-key", "x-api-key")


def get_caller(http_request: HttpRequest) -> Caller:
    """Returns the authenticated caller. Only for routes that declare a scope."""
    caller: Caller = http_request.scope["state"]["caller"]
    return caller


def get_team(http_request: HttpRequest) -> str:
    """Returns the team of the authenticated caller. Only for routes that require the scope `generate` or `read`."""
    team: str = http_request.scope["state"]["team"]
    return team


def authenticate(catalogue: Catalogue, headers: Mapping[str, str]) -> Caller:
    """Returns the caller with the request's key. Raises ApiError (401) if there is no valid key.

    The key is looked up by its digest, so the time of the lookup reveals nothing about configured keys.
    """
    key = find_api_key(headers)
    if key is None:
        message = "Missing API key. Send Authorization: Bearer <key>, or api-key: <key>."
        raise ApiError(401, "missing_api_key", message, is_retryable=False)
    if (configured := catalogue.configured_keys.get(sha256_hex(key))) is None:
        message = "Invalid API key. Ask your platform team for one."
        raise ApiError(401, "invalid_api_key", message, is_retryable=False)
    return make_configured_caller(configured)


def find_api_key(headers: Mapping[str, str]) -> str | None:
    """Returns the first key in the headers. Any further keys are ignored."""
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith(BEARER_PREFIX):
        return authorization[len(BEARER_PREFIX) :].strip()
    return next((key.strip() for name in API_KEY_HEADERS if (key := headers.get(name))), None)
