"""The sender of an authenticated request."""

from msgspec import Struct

from gateway.access.rate_limiter import LimitedOwner, has_limits
from gateway.catalogue import Catalogue, ConfiguredKey
from gateway.config.schema import RateLimits
from gateway.jobs.budgets import NO_BUDGET_LIMITS, BudgetLimits, KeyBudget
from gateway.store.api_keys import ApiKey, Scope

TEAM_SCOPES = frozenset((Scope.GENERATE, Scope.READ))
ADMIN_SCOPES = frozenset((Scope.ADMIN,))


class Principal(Struct, frozen=True, kw_only=True):
    """The API key of a request, and what it permits. `team`: None for an admin key, which has no other scope.

    `policies`: the policies that the key may request, of those of its team; None for all of them.
    `limits`, `budget`: those of the key alone, besides its team's. `limits_id`: the id under which they are counted.
    """

    key_id: str
    team: str | None
    scopes: frozenset[Scope]
    policies: tuple[str, ...] | None = None
    limits: RateLimits = RateLimits()
    limits_id: str = ""
    budget: BudgetLimits = NO_BUDGET_LIMITS

    @property
    def key_budget(self) -> KeyBudget | None:
        """Its budget, also without limits: money counts before one is set. None for an admin key of the
        configuration."""
        return KeyBudget(self.limits_id, self.budget) if self.limits_id else None


def make_configured_principal(key: ConfiguredKey) -> Principal:
    """Returns the principal with a key of the configuration."""
    if key.team is None:
        return Principal(key_id=key.id, team=None, scopes=ADMIN_SCOPES)
    return Principal(key_id=key.id, team=key.team, scopes=TEAM_SCOPES, limits_id=key.id, budget=key.budget)


def make_stored_principal(key: ApiKey) -> Principal:
    """Returns the principal with a key of the store."""
    return Principal(
        key_id=key.id,
        team=key.team,
        scopes=frozenset(key.scopes),
        policies=key.policies,
        limits=key.limits,
        limits_id=key.limits_id,
        budget=key.budget,
    )


def list_limited_owners(principal: Principal, catalogue: Catalogue) -> tuple[LimitedOwner, ...]:
    """Lists the principal's team and API key, those that have rate limits."""
    owners = []
    team = catalogue.teams.get(principal.team or "")
    if team is not None and has_limits(team.limits):
        owners.append(LimitedOwner(f"team:{principal.team}", team.limits))
    if has_limits(principal.limits):
        owners.append(LimitedOwner(f"key:{principal.limits_id}", principal.limits))
    return tuple(owners)
