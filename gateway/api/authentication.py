"""Authentication of requests: an API key belongs to one team."""

from collections.abc import Mapping

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.catalogue import Catalogue
from gateway.config.value_types import sha256_hex

BEARER_PREFIX = "bearer "
# Headers that Azure's clients and clients of other gateways use.
API_KEY_HEADERS = ("api-key", "x-api-key")


def authenticate_request(http_request: HttpRequest) -> str:
    """Authenticates the request, once, and keeps its team in the request's state."""
    state = http_request.scope["state"]
    team: str | None = state.get("team")
    if team is None:
        team = state["team"] = authenticate(get_context(http_request).catalogue(), http_request.headers)
    return team


def authenticate(catalogue: Catalogue, headers: Mapping[str, str]) -> str:
    """Returns the key's team. Raises ApiError (401) if there is no valid key.

    The key is looked up by its digest, so the time of the lookup reveals nothing about configured keys.
    """
    key = find_api_key(headers)
    if key is None:
        message = "Missing API key. Send Authorization: Bearer <key>, or api-key: <key>."
        raise ApiError(401, "missing_api_key", message, is_retryable=False)
    if (team := catalogue.teams_by_key_hash.get(sha256_hex(key))) is None:
        message = "Invalid API key. Ask your platform team for one."
        raise ApiError(401, "invalid_api_key", message, is_retryable=False)
    return team


def find_api_key(headers: Mapping[str, str]) -> str | None:
    """Returns the first key in the headers. Any further keys are ignored."""
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith(BEARER_PREFIX):
        return authorization[len(BEARER_PREFIX) :].strip()
    return next((key.strip() for name in API_KEY_HEADERS if (key := headers.get(name))), None)
