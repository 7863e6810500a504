"""Who calls: a key becomes a team, or nobody."""

import hmac
from collections.abc import Mapping

from gateway.api.errors import ApiError
from gateway.catalogue import Catalogue
from gateway.config.values import digest_of

SCHEME = "bearer "
# Where Azure's clients put the key, and those that follow other gateways.
KEY_HEADERS = ("api-key", "x-api-key")


def team_of(catalogue: Catalogue, headers: Mapping[str, str]) -> str:
    """The whole digest is compared, with every key's, so that the time taken says nothing."""
    given = find_key(headers)
    if given is None:
        raise ApiError(
            401, "missing_api_key", "Send your key: Authorization: Bearer <key>, or api-key: <key>.", final=True
        )
    digest = digest_of(given)
    found = None
    for known, team in catalogue.keys.items():
        if hmac.compare_digest(known, digest):
            found = team
    if found is None:
        raise ApiError(
            401, "invalid_api_key", "This key is not known here. Ask your platform team for one.", final=True
        )
    return found


def find_key(headers: Mapping[str, str]) -> str | None:
    """The first that is there: of several, only one is tried."""
    authorization = headers.get("authorization", "")
    if authorization.lower().startswith(SCHEME):
        return authorization[len(SCHEME) :].strip()
    return next((key.strip() for name in KEY_HEADERS if (key := headers.get(name))), None)
