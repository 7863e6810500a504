"""Query parameters: a repeated or unknown one is an error that names it, on every route that has any."""

import httpx
import pytest

from tests.api.error_responses import JOBS_PATH, expect_final_error
from tests.api.team_resources import RESOURCE_MAKERS
from tests.harness.gateway_runner import RunningGateway
from tests.harness.key_admin import open_admin_client

# A route of each kind, with a parameter of it and a value.
PARAMETERS = [
    (JOBS_PATH, "limit", "1"),
    (JOBS_PATH, "after", "job_x"),
    (JOBS_PATH, "since", "2026-11-27"),
    (f"{JOBS_PATH}/{{job_id}}", "wait", "0"),
    (f"{JOBS_PATH}/{{job_id}}/events", "starting_after", "1"),
    (f"{JOBS_PATH}/{{job_id}}/images/0", "w", "320"),
    (f"{JOBS_PATH}/{{job_id}}/images/0", "download", "1"),
    ("/v1/files", "limit", "1"),
    ("/v1/files", "purpose", "batch"),
    ("/v1/batches", "limit", "1"),
    ("/v1/responses/{response_id}", "stream", "false"),
    ("/v1/responses/{response_id}/input_items", "limit", "1"),
    ("/v1/admin/keys", "limit", "1"),
    ("/v1/admin/keys", "team", "design"),
    ("/v1/admin/events", "limit", "1"),
    ("/v1/admin/teams", "", ""),
]


@pytest.fixture(scope="module")
def ids(gateway_process: RunningGateway) -> dict[str, str]:
    return {name: RESOURCE_MAKERS[name](gateway_process.http) for name in ("job_id", "response_id")}


def get(gateway: RunningGateway, path: str, query: str) -> httpx.Response:
    if "/admin/" not in path:
        return gateway.http.get(f"{path}?{query}")
    with open_admin_client(gateway.url) as admin:
        return admin.get(f"{path}?{query}")


@pytest.mark.parametrize(("path", "name", "value"), [row for row in PARAMETERS if row[1]])
def test_repeated_parameter_is_rejected(
    gateway: RunningGateway, ids: dict[str, str], path: str, name: str, value: str
) -> None:
    target = path.format(**ids)
    for query in (f"{name}={value}&{name}={value}", f"{name}={value}&{name}=2", f"{name}=&{name}={value}"):
        error = expect_final_error(get(gateway, target, query), 400, "duplicate_parameter")
        assert error["param"] == name


@pytest.mark.parametrize("path", sorted({path for path, _, _ in PARAMETERS}))
def test_unknown_parameter_is_rejected(gateway: RunningGateway, ids: dict[str, str], path: str) -> None:
    error = expect_final_error(get(gateway, path.format(**ids), "colour=blue"), 400, "unknown_parameter")
    assert error["param"] == "colour"


def test_filters_may_be_repeated(gateway: RunningGateway) -> None:
    query = "status=completed&status=failed&label=a&label=b"
    assert gateway.http.get(f"{JOBS_PATH}?{query}").status_code == 200


def test_sdk_lists_of_what_to_include_may_be_repeated(gateway: RunningGateway, ids: dict[str, str]) -> None:
    path = f"/v1/responses/{ids['response_id']}"
    assert gateway.http.get(f"{path}?include[]=a&include[]=b&include=c&include=d").status_code == 200


def test_version_of_azure_clients_is_accepted_on_their_paths(gateway: RunningGateway, ids: dict[str, str]) -> None:
    path = f"/openai/v1/responses/{ids['response_id']}"
    assert gateway.http.get(f"{path}?api-version=preview").status_code == 200
    error = expect_final_error(
        gateway.http.get(f"/v1/responses/{ids['response_id']}?api-version=preview"), 400, "unknown_parameter"
    )
    assert error["param"] == "api-version"
