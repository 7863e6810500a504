"""Every route declares the scope that it requires."""

import pytest
from litestar import get

from gateway.api.access_control import PUBLIC, get_declared_scope, require_declared_scopes
from gateway.api.application import ROUTE_HANDLERS

DOCUMENTATION = ("/openapi.json", "/docs", "/llms.txt")
PUBLIC_PREFIXES = ("/livez", "/readyz", "/metrics", "/files/", "/callbacks/", *DOCUMENTATION)


def test_every_route_declares_a_scope() -> None:
    """A route without a scope would be open to every client, or to none."""
    require_declared_scopes(ROUTE_HANDLERS)


def test_only_listed_routes_are_public() -> None:
    public = {path for handler in ROUTE_HANDLERS if get_declared_scope(handler) is None for path in handler.paths}
    assert not {path for path in public if not path.startswith(PUBLIC_PREFIXES)}


def test_route_without_scope_is_refused() -> None:
    @get("/v1/secrets")
    async def list_secrets() -> str:
        return ""

    @get("/v1/news", opt=PUBLIC)
    async def list_news() -> str:
        return ""

    require_declared_scopes([list_news])
    with pytest.raises(ValueError, match="/v1/secrets"):
        require_declared_scopes([list_news, list_secrets])
