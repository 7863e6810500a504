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
from tests.harness.gateway_runner import ADMIN_KEY, API_KEY, CONFIG, RunningGateway

CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
]
QUICK_EXAMPLES, THOROUGH_EXAMPLES = 6, 100


def build_schema() -> Any:
    catalogue = load_config(CONFIG, with_secrets=False).catalogue
    assert catalogue is not None
    document = msgspec.json.decode(msgspec.json.encode(build_openapi_document(ROUTE_HANDLERS, catalogue)))
    document["components"] = make_strict(document["components"])
    return schemathesis.openapi.from_dict(document)


SCHEMA = build_schema()


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
