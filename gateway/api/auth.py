"""Who calls: a key becomes a team, or nobody."""

import hmac
from collections.abc import Mapping

from gateway.api.api_errors import ApiError
from gateway.catalogue import Catalogue
from gateway.config.values import sha256_hex

BEARER_PREFIX = "bearer "
# Where Azure's clients put the key, and those that follow other gateways.
API_KEY_HEADERS = ("api-key", "x-api-key")


def authenticate(catalogue: Catalogue, headers: Mapping[str, str]) -> str:
    """The whole digest is compared, with every key's, so that the time taken says nothing."""
    key = find_api_key(headers)
    if key is None:
        raise ApiError(
            401, "missing_api_key", "Send your key: Authorization: Bearer <key>, or api-key: <key>.", final=True
        )
    digest = sha256_hex(key)
    matching_team = None
    for key_digest, team in catalogue.teams_by_key_hash.items():
        if hmac.compare_digest(key_digest, digest):
            matching_team = team
    if matching_team is None:
        raise ApiError(
            401, "invalid_api_key", "This key is not known here. Ask your platform team for one.", final=True
        )
    return matching_team


def find_api_key(headers: Mapping[str, str]) -> str | None:
    """The first that is there: of several, only one is tried."""
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith(BEARER_PREFIX):
        return authorization[len(BEARER_PREFIX) :].strip()
    return next((key.strip() for name in API_KEY_HEADERS if (key := headers.get(name))), None)
