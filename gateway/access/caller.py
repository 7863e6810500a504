"""The sender of an authenticated request."""

from msgspec import Struct

from gateway.access.rate_limiter import LimitedOwner, has_limits
from gateway.catalogue import Catalogue, ConfiguredKey
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


def list_limited_owners(caller: Caller, catalogue: Catalogue) -> tuple[LimitedOwner, ...]:
    """Lists the caller's team and API key, those that have rate limits."""
    owners = []
    if caller.team is not None and has_limits(limits := catalogue.teams[caller.team].limits):
        owners.append(LimitedOwner(f"team:{caller.team}", limits))
    if has_limits(caller.limits):
        owners.append(LimitedOwner(f"key:{caller.key_id}", caller.limits))
    return tuple(owners)
