"""The headers and bodies of error responses."""

import json

import pytest

from gateway.api.api_errors import ApiError


@pytest.mark.parametrize(
    ("seconds", "header"), [(-5, "1"), (0, "1"), (1, "1"), (60, "60"), (120, "120"), (86_400, "120")]
)
def test_retry_after_is_within_what_sdks_obey(seconds: int, header: str) -> None:
    for error in (
        ApiError(503, "draining", "Retry.", retry_after=seconds),
        ApiError(503, "draining", "Retry.", headers={"retry-after": str(seconds)}),
    ):
        assert error.build_response_headers() == {"retry-after": header, "x-should-retry": "true"}


def test_retryable_error_always_has_a_retry_after() -> None:
    error = ApiError(408, "body_timeout", "Retry.", is_retryable=True)
    assert error.build_response_headers() == {"retry-after": "1", "x-should-retry": "true"}


def test_final_error_has_no_retry_after() -> None:
    for error in (ApiError(400, "invalid_value", "No."), ApiError(429, "x", "No.", retry_after=5, is_retryable=False)):
        assert error.build_response_headers() == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("path", "is_openai"),
    [
        *((path, True) for path in ("/v1/images/edits", "/v1/models/a/b", "/models", "/openai/x", "/v1/responses")),
        *((path, True) for path in ("//v1/images", "/v1//models", "/images/generations", "/v1/files", "/v1/batches/1")),
        *((path, False) for path in ("/v1/jobs", "/files/a/b", "/", "", "/v1/admin/keys", "/x/v1/images")),
    ],
)
def test_body_has_the_form_of_its_route(path: str, is_openai: bool) -> None:
    content, media_type = ApiError(404, "route_not_found", "None.").render(path, "req_1", "")
    assert media_type == ("application/json" if is_openai else "application/problem+json")
    assert (set(json.loads(content)) == {"error"}) is is_openai
    assert set(json.loads(content)["error"]) == {"message", "type", "param", "code"}
