"""Every route with every role, and with the keys of two teams. The routes come from the application's own list.

Another team's resource gets exactly the response of one that does not exist.
"""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from litestar.handlers import HTTPRouteHandler

from gateway.api.access_control import get_declared_scope, list_accepted_scopes
from gateway.api.application import ROUTE_HANDLERS
from gateway.store.api_keys import Scope
from tests.api.team_resources import RESOURCE_MAKERS
from tests.harness.gateway_runner import ADMIN_KEY, RunningGateway, make_client
from tests.harness.key_admin import create_key

Route = tuple[HTTPRouteHandler, str, str]
# Parameters that name nothing of a team.
SHARED_PARAMETERS = {"deployment", "model_id", "key_id", "override_id", "target_id", "index"}
UNKNOWN_IDS = {
    "job_id": "job_" + "0" * 28,
    "response_id": "resp_" + "0" * 28,
    "file_id": "file-" + "0" * 28,
    "batch_id": "batch_" + "0" * 28,
    "delivery_id": "delivery_" + "0" * 28,
}
FIRST_INDEX = {"index": "0"}
# What differs between two responses to the same request.
VOLATILE_HEADERS = {"date", "x-request-id", "x-igw-overhead-ms"}
SCOPES_BY_ROLE: dict[str, frozenset[Scope] | None] = {
    "no key": None,
    "unknown key": None,
    "revoked key": None,
    "reader": frozenset((Scope.READ,)),
    "generator": frozenset((Scope.GENERATE,)),
    "team": frozenset((Scope.GENERATE, Scope.READ)),
    "admin": frozenset((Scope.ADMIN,)),
    "stored admin": frozenset((Scope.ADMIN,)),
}


def list_routes() -> list[Route]:
    return [
        (handler, method, path)
        for handler in ROUTE_HANDLERS
        for path in sorted(handler.paths)
        for method in sorted(handler.http_methods)
    ]


def list_path_parameters(path: str) -> list[str]:
    return re.findall(r"\{(\w+):\w+\}", path)


def fill_path(path: str, ids: dict[str, str]) -> str:
    values = FIRST_INDEX | ids
    return re.sub(r"\{(\w+):(\w+)\}", lambda match: values.get(match[1], "1" if match[2] == "int" else "unknown"), path)


ROUTES = list_routes()
ROUTE_NAMES = [f"{method} {path}" for _, method, path in ROUTES]
TEAM_ROUTES = [
    route
    for route in ROUTES
    if get_declared_scope(route[0]) in (Scope.READ, Scope.GENERATE)
    and set(list_path_parameters(route[2])) - SHARED_PARAMETERS
]
LIST_ROUTES = [
    route
    for route in ROUTES
    if route[1] == "GET" and get_declared_scope(route[0]) is Scope.READ and not list_path_parameters(route[2])
]


@pytest.fixture(scope="module")
def keys_by_role(gateway_process: RunningGateway) -> dict[str, str | None]:
    revoked = create_key(gateway_process)
    with make_client(gateway_process.url, ADMIN_KEY) as admin:
        assert admin.post(f"/v1/admin/keys/{revoked['id']}/revoke").status_code == 200
    return {
        "no key": None,
        "unknown key": "igw_unknown",
        "revoked key": revoked["key"],
        "reader": create_key(gateway_process, scopes=["read"])["key"],
        "generator": create_key(gateway_process, scopes=["generate"])["key"],
        "team": create_key(gateway_process)["key"],
        "admin": ADMIN_KEY,
        "stored admin": create_key(gateway_process, team=None, scopes=["admin"])["key"],
    }


@pytest.mark.parametrize("role", SCOPES_BY_ROLE)
def test_role_reaches_exactly_the_routes_of_its_scopes(
    gateway: RunningGateway, keys_by_role: dict[str, str | None], role: str
) -> None:
    key, scopes = keys_by_role[role], SCOPES_BY_ROLE[role]
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=gateway.url, headers=headers, trust_env=False, timeout=60) as client:
        for handler, method, path in ROUTES:
            answer = client.request(method, fill_path(path, UNKNOWN_IDS), headers={"content-type": "application/json"})
            scope = get_declared_scope(handler)
            expected = expect_outcome(frozenset(list_accepted_scopes(handler)), scopes)
            assert classify(answer, scope) == expected, f"{role}: {method} {path}"


def expect_outcome(accepted: frozenset[Scope], scopes: frozenset[Scope] | None) -> str:
    if not accepted:
        return "allowed"
    if scopes is None:
        return "unauthenticated"
    return "allowed" if scopes & accepted else "forbidden"


def classify(answer: httpx.Response, scope: Scope | None) -> str:
    """The 401 of a callback is about its signature, and the 403 of an image URL about its own. An answer to HEAD has no
    body: its status decides."""
    if answer.request.method == "HEAD" and scope is not None:
        return {401: "unauthenticated", 403: "forbidden"}.get(answer.status_code, "allowed")
    code = answer.json()["error"]["code"] if answer.status_code in (401, 403) and answer.content else None
    if code in ("missing_api_key", "invalid_api_key", "api_key_revoked"):
        return "unauthenticated"
    return "forbidden" if code == "insufficient_scope" else "allowed"


@pytest.fixture(scope="module")
def team_clients(gateway_process: RunningGateway) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of two teams."""
    keys = [create_key(gateway_process, team)["key"] for team in ("design", "marketing")]
    with make_client(gateway_process.url, keys[0]) as owner, make_client(gateway_process.url, keys[1]) as other:
        yield owner, other


def test_every_parameter_of_a_team_is_known() -> None:
    names = {name for _, _, path in TEAM_ROUTES for name in list_path_parameters(path)} - SHARED_PARAMETERS
    assert names == RESOURCE_MAKERS.keys() == UNKNOWN_IDS.keys()


@pytest.mark.parametrize("route", TEAM_ROUTES, ids=lambda route: f"{route[1]} {route[2]}")
def test_resource_of_another_team_looks_like_none(
    gateway: RunningGateway, team_clients: tuple[httpx.Client, httpx.Client], route: Route
) -> None:
    (owner, other), (_, method, path) = team_clients, route
    ids = {name: maker(owner) for name, maker in RESOURCE_MAKERS.items() if f"{{{name}:" in path}
    foreign = other.request(method, fill_path(path, ids))
    unknown = other.request(method, fill_path(path, UNKNOWN_IDS))
    assert foreign.status_code == 404
    assert describe(foreign, ids) == describe(unknown, UNKNOWN_IDS)
    assert owner.request(method, fill_path(path, ids)).status_code != 404


def describe(answer: httpx.Response, ids: dict[str, str]) -> tuple[int, dict[str, str], Any]:
    """Returns everything of the response but the id that was asked for and what differs between any two responses."""
    request_id = answer.headers["x-request-id"]
    text = answer.text.replace(request_id, "")
    headers = {name: value for name, value in answer.headers.items() if name not in VOLATILE_HEADERS}
    for resource_id in ids.values():
        text = text.replace(resource_id, "")
        headers = {name: value.replace(resource_id, "") for name, value in headers.items()}
    headers.pop("content-length", None)
    return answer.status_code, headers, text


@pytest.mark.parametrize("route", LIST_ROUTES, ids=lambda route: f"{route[1]} {route[2]}")
def test_lists_contain_nothing_of_another_team(
    gateway: RunningGateway, team_clients: tuple[httpx.Client, httpx.Client], route: Route
) -> None:
    owner, other = team_clients
    created_ids = [maker(owner) for maker in RESOURCE_MAKERS.values()]
    text = other.get(route[2]).text
    assert not [resource_id for resource_id in created_ids if resource_id in text]
