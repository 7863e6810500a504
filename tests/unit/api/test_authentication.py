"""API keys of the store are checked with the configuration in force. Keys are sent in three headers."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from gateway.access.key_registry import KeyRegistry
from gateway.access.key_tokens import make_token
from gateway.access.principal import Principal, list_limited_owners
from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.authentication import authenticate, find_api_key
from gateway.catalogue import Catalogue
from gateway.config.schema import RateLimits
from gateway.store.api_keys import Scope
from gateway.store.base import StoreUnavailable
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.access.key_fixtures import KeyWorld, get_catalogue


async def make_context(world: KeyWorld, catalogue: Catalogue) -> tuple[ApiContext, KeyRegistry]:
    """Makes the parts of a context that authentication uses."""
    registry = world.make_registry()
    await registry.refresh()
    context = SimpleNamespace(catalogue=lambda: catalogue, key_registry=registry, wall_clock=world.clock)
    return cast(ApiContext, context), registry


def make_headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@in_virtual_time
async def test_key_of_a_removed_team_is_refused_by_name() -> None:
    world = KeyWorld()
    token = await world.create_token()
    context, _ = await make_context(world, get_catalogue())
    principal = await authenticate(context, make_headers(token))
    assert (principal.team, principal.scopes) == ("design", {Scope.GENERATE, Scope.READ})
    context, _ = await make_context(world, replace(get_catalogue(), teams={}))
    with pytest.raises(ApiError) as error:
        await authenticate(context, make_headers(token))
    assert (error.value.status, error.value.code) == (403, "team_not_configured")
    assert "'design'" in error.value.message


def test_team_that_is_removed_within_a_request_has_no_limits() -> None:
    """A reload may come between authentication and the limits."""
    catalogue = replace(get_catalogue(), teams={})
    principal = Principal(
        key_id="b",
        team="design",
        scopes=frozenset((Scope.READ,)),
        limits=RateLimits(requests_per_minute=1),
        limits_id="a",
    )
    assert [owner.name for owner in list_limited_owners(principal, catalogue)] == ["key:a"]


@in_virtual_time
async def test_outage_makes_unknown_keys_unavailable() -> None:
    """It may be valid: its client retries instead of giving up."""
    world = KeyWorld()
    token, unknown = await world.create_token(), make_token(world.draw_bytes).text
    context, _ = await make_context(world, get_catalogue())
    world.is_down = True
    assert (await authenticate(context, make_headers(token))).team == "design"
    with pytest.raises(StoreUnavailable):
        await authenticate(context, make_headers(unknown))
    with pytest.raises(ApiError) as error:
        await authenticate(context, make_headers("sk-of-another-form"))
    assert error.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer the key"},
        {"authorization": "bearer  the key "},
        {"api-key": "the key"},
        {"x-api-key": "the key"},
        {"authorization": "Basic other", "x-api-key": "the key"},
    ],
)
def test_key_is_found_in_each_header(headers: dict[str, Any]) -> None:
    assert find_api_key(headers) == "the key"
