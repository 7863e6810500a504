"""The sender of an authenticated request."""

from msgspec import Struct

from gateway.catalogue import ConfiguredKey
from gateway.config.schema import RateLimits
from gateway.store.api_keys import ApiKey, Scope

TEAM_SCOPES = frozenset((Scope.GENERATE, Scope.READ))
ADMIN_SCOPES = frozenset((Scope.ADMIN,))


class Caller(Struct, frozen=True, kw_only=True):
    """The API key of a request, and what it permits. `team`: None for an admin key, which has no other scope.

    `policies`: the policies that the key may request, of those of its team; None for all of them.
    `limits`: those of the key alone, besides its team's.
    """

    key_id: str
    team: str | None
    scopes: frozenset[Scope]
    policies: tuple[str, ...] | None = None
    limits: RateLimits = RateLimits()


def make_configured_caller(key: ConfiguredKey) -> Caller:
    """Returns the caller with a key of the configuration."""
    return Caller(key_id=key.id, team=key.team, scopes=TEAM_SCOPES if key.team is not None else ADMIN_SCOPES)


def make_stored_caller(key: ApiKey) -> Caller:
    """Returns the caller with a key of the store."""
    return Caller(key_id=key.id, team=key.team, scopes=frozenset(key.scopes), policies=key.policies, limits=key.limits)
