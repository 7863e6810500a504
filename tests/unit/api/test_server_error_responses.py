"""Errors of interrupted requests: they suggest a retry only if it cannot place a second order."""

from typing import Any

import pytest

from gateway.api.api_errors import ApiError
from gateway.api.charge_sentences import CHARGED_IF_DELIVERED, NOT_CHARGED
from gateway.api.server_error_responses import (
    internal_error,
    record_created_job,
    select_charge_sentence,
    service_unavailable_error,
    track_job_creation,
)
from gateway.store.base import StoreFull, StoreUnavailable

CAUSE = "The job store is unavailable."
RETRYABLE_HEADERS = {"x-igw-job-id": "job_1", "retry-after": "5", "x-should-retry": "true"}


def make_scope(method: str = "POST") -> dict[str, Any]:
    return {"method": method, "path": "/v1/jobs", "state": {}}


def make_scope_with_job(is_idempotent: bool) -> dict[str, Any]:
    scope = make_scope()
    with track_job_creation(scope["state"], is_idempotent):
        pass
    record_created_job(scope["state"], "job_1")
    return scope


def make_error(scope: dict[str, Any]) -> ApiError:
    return service_unavailable_error(scope, "store_unavailable", CAUSE, 5)


def test_error_before_job_creation_suggests_retry() -> None:
    error = make_error(make_scope())
    assert (error.status, error.build_response_headers()) == (503, {"retry-after": "5", "x-should-retry": "true"})
    assert error.message == f"{CAUSE} Retry the request."


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_error_of_read_request_mentions_no_order(method: str) -> None:
    error = make_error(make_scope(method))
    assert (error.status, error.retry_after) == (503, 5)
    assert "order" not in error.message


def test_error_of_read_request_names_its_job() -> None:
    scope = make_scope("GET")
    scope["state"]["job_id"] = "job_1"
    assert make_error(scope).build_response_headers() == RETRYABLE_HEADERS


def test_idempotent_request_with_job_suggests_retry() -> None:
    error = make_error(make_scope_with_job(is_idempotent=True))
    assert (error.status, error.build_response_headers()) == (503, RETRYABLE_HEADERS)
    assert "GET /v1/jobs/job_1" in error.message


def test_other_request_with_job_suggests_no_retry() -> None:
    error = make_error(make_scope_with_job(is_idempotent=False))
    assert (error.status, error.build_response_headers()) == (424, {"x-igw-job-id": "job_1", "x-should-retry": "false"})
    assert "GET /v1/jobs/job_1" in error.message
    assert "new purchase" in error.message


@pytest.mark.parametrize(("is_idempotent", "status"), [(True, 503), (False, 424)])
def test_error_during_job_creation_says_job_may_exist(is_idempotent: bool, status: int) -> None:
    scope = make_scope()
    with pytest.raises(RuntimeError), track_job_creation(scope["state"], is_idempotent):
        raise RuntimeError
    assert make_error(scope).status == status
    assert "If a job was created" in make_error(scope).message
    assert select_charge_sentence(scope) == CHARGED_IF_DELIVERED
    assert internal_error(scope).status == 424


@pytest.mark.parametrize("refusal", [ApiError(400, "wrong", "No."), StoreUnavailable("away"), StoreFull("full")])
def test_rejected_creation_proves_that_no_job_exists(refusal: Exception) -> None:
    scope = make_scope()
    with pytest.raises(type(refusal)), track_job_creation(scope["state"], is_idempotent=False):
        raise refusal
    assert make_error(scope).status == 503
    assert select_charge_sentence(scope) == NOT_CHARGED


@pytest.mark.parametrize("is_idempotent", [True, False])
def test_internal_error_with_job_suggests_no_retry(is_idempotent: bool) -> None:
    error = internal_error(make_scope_with_job(is_idempotent))
    assert (error.status, error.build_response_headers()) == (424, {"x-igw-job-id": "job_1", "x-should-retry": "false"})
    assert "GET /v1/jobs/job_1" in error.message


def test_internal_error_without_job_is_500() -> None:
    error = internal_error(make_scope())
    assert (error.status, error.build_response_headers()) == (500, {"x-should-retry": "false"})
    assert select_charge_sentence(make_scope()) == NOT_CHARGED
