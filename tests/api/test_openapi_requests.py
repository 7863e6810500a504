"""Requests that Schemathesis makes from the OpenAPI document: valid and invalid ones for every route.

No response is a 5xx, and each has a documented status, media type and body without undocumented fields.
"""

from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.api.application import ROUTE_HANDLERS
from gateway.api.reference.openapi_document import build_openapi_document
from gateway.commands.config_helpers import load_config
from tests.api.documented_responses import make_strict
from tests.api.team_resources import ADMIN_RESOURCE_MAKERS, RESOURCE_MAKERS, make_resource
from tests.harness.gateway_runner import ADMIN_KEY, API_KEY, CONFIG, RunningGateway
from tests.harness.key_admin import open_admin_client

CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]
QUICK_EXAMPLES, THOROUGH_EXAMPLES, EXISTING_RESOURCE_EXAMPLES = 6, 100, 25


def build_schema() -> Any:
    catalogue = load_config(CONFIG, with_secrets=False).catalogue
    assert catalogue is not None
    document = msgspec.json.decode(msgspec.json.encode(build_openapi_document(ROUTE_HANDLERS, catalogue)))
    document["components"] = make_strict(document["components"])
    return schemathesis.openapi.from_dict(document)


SCHEMA = build_schema()
RESOURCE_NAMES = RESOURCE_MAKERS.keys() | ADMIN_RESOURCE_MAKERS.keys()
ROUTES_OF_RESOURCES = SCHEMA.include(path_regex="|".join(RESOURCE_NAMES))


def make_settings(max_examples: int) -> settings:
    return settings(
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def check_case(gateway: RunningGateway, case: schemathesis.Case) -> None:
    needs_admin = case.operation.definition.raw["security"] == [{"bearer": ["admin"]}]
    headers = {"authorization": f"Bearer {ADMIN_KEY if needs_admin else API_KEY}"}
    response = case.call(base_url=gateway.url, headers=headers)
    case.validate_response(response, checks=CHECKS)


@SCHEMA.parametrize()
@make_settings(QUICK_EXAMPLES)
def test_generated_requests_get_documented_responses(case: schemathesis.Case, gateway_process: RunningGateway) -> None:
    check_case(gateway_process, case)


@pytest.mark.thorough
@SCHEMA.parametrize()
@make_settings(THOROUGH_EXAMPLES)
def test_many_generated_requests_get_documented_responses(
    case: schemathesis.Case, gateway_process: RunningGateway
) -> None:
    check_case(gateway_process, case)


@pytest.mark.thorough
@ROUTES_OF_RESOURCES.parametrize()
@make_settings(EXISTING_RESOURCE_EXAMPLES)
def test_generated_requests_for_existing_resources_get_documented_responses(
    case: schemathesis.Case, gateway_process: RunningGateway
) -> None:
    """Almost no generated id belongs to anything."""
    [name] = RESOURCE_NAMES & case.path_parameters.keys()
    with (
        open_admin_client(gateway_process.url) as admin,
        make_resource(name, gateway_process.http, admin) as resource,
    ):
        case.path_parameters[name] = resource
        check_case(gateway_process, case)
