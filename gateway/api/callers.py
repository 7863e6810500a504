"""Who calls: a key becomes a team, or nobody."""

import hmac

from gateway.api.errors import ApiError
from gateway.catalogue import Catalogue
from gateway.config.values import digest_of

SCHEME = "bearer "


def team_of(catalogue: Catalogue, authorization: str | None) -> str:
    """The whole digest is compared, with every key's, so that the time taken says nothing."""
    given = authorization or ""
    if not given.lower().startswith(SCHEME):
        raise ApiError(401, "missing_api_key", "Send your key: Authorization: Bearer <key>.", final=True)
    digest = digest_of(given[len(SCHEME) :].strip())
    found = None
    for known, team in catalogue.keys.items():
        if hmac.compare_digest(known, digest):
            found = team
    if found is None:
        raise ApiError(
            401, "invalid_api_key", "This key is not known here. Ask your platform team for one.", final=True
        )
    return found
