"""Checks each request's API key against the scope that its route declares, before the route's handler runs.

Every route declares its scope: `@get(path, opt=READ)`. The application does not start with a route that declares none.
"""

from collections.abc import Iterable, Mapping
from functools import partial

from litestar.handlers import BaseRouteHandler

from gateway.access.principal import Principal, list_limited_owners
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import authenticate
from gateway.api.request_head_checks import reject_conflicting_headers
from gateway.store.api_keys import Scope

_SCOPE, _OTHER_SCOPE = "scope", "other_scope"
# Needs no API key: public data, or a route with signed URLs.
PUBLIC: Mapping[str, Scope | None] = {_SCOPE: None}
# Reads the team's jobs, images, files, batches and money.
READ: Mapping[str, Scope | None] = {_SCOPE: Scope.READ}
# Creates, cancels or deletes something of the team.
GENERATE: Mapping[str, Scope | None] = {_SCOPE: Scope.GENERATE}
ADMIN: Mapping[str, Scope | None] = {_SCOPE: Scope.ADMIN}
# Reads the team's money; an admin, that of all teams.
READ_OR_ADMIN: Mapping[str, Scope | None] = {_SCOPE: Scope.READ, _OTHER_SCOPE: Scope.ADMIN}


def get_declared_scope(handler: BaseRouteHandler) -> Scope | None:
    """Returns the scope that a route requires; None if it is public."""
    scope: Scope | None = handler.opt[_SCOPE]
    return scope


def list_accepted_scopes(handler: BaseRouteHandler) -> tuple[Scope, ...]:
    """Lists the scopes of which a key needs one, the declared scope first; none if the route is public."""
    return tuple(scope for scope in (handler.opt[_SCOPE], handler.opt.get(_OTHER_SCOPE)) if scope is not None)


def require_declared_scopes(handlers: Iterable[BaseRouteHandler]) -> None:
    """Raises ValueError if a route declares no scope."""
    undeclared = sorted(path for handler in handlers if _SCOPE not in handler.opt for path in handler.paths)
    if undeclared:
        names = "opt=PUBLIC, READ, GENERATE, ADMIN or READ_OR_ADMIN of gateway/api/access_control.py"
        raise ValueError(f"Routes without a scope: {', '.join(undeclared)}. Declare {names}")


async def authorize_request(request: HttpRequest) -> None:
    """Authenticates the request, and keeps its principal and team in the request's state.

    Raises ApiError: 400 if a header contradicts itself, 401 without a valid key, 403 if the key lacks the scope. Runs
    before the body is read. A guard of Litestar would do the same, but costs a copy of the route's handler.
    """
    reject_conflicting_headers(request.scope["headers"])
    scope = get_declared_scope(request.scope["route_handler"])
    if scope is None:
        return
    context = get_context(request)
    principal = await authenticate(context, request.headers)
    state = request.scope["state"]
    state["principal"], state["team"] = principal, principal.team
    state["limited_owners"] = owners = list_limited_owners(principal, context.catalogue())
    if owners:
        state["describe_limits"] = partial(context.rate_limiter.describe, owners)
    if principal.scopes.isdisjoint(list_accepted_scopes(request.scope["route_handler"])):
        raise _insufficient_scope_error(scope, principal)


def _insufficient_scope_error(scope: Scope, principal: Principal) -> ApiError:
    message = (
        f"This API key lacks the scope '{scope}'; it has {', '.join(sorted(principal.scopes))}. "
        f"Use a key with the scope '{scope}'."
    )
    headers = {"www-authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'}
    return ApiError(403, "insufficient_scope", message, headers=headers)
