"""The answer to an interrupted request depends on how far it came, and leads no client to a second order."""

from typing import Any

import pytest

from gateway.api.errors import ApiError
from gateway.api.interruption import internal_error, interruption_error, placing_order, record_job
from gateway.store.base import StoreFull, StoreUnavailable

CAUSE = "The gateway's job store does not answer at the moment."


def scope(method: str = "POST") -> dict[str, Any]:
    return {"method": method, "state": {}}


def accepted(is_findable: bool) -> dict[str, Any]:
    found = scope()
    with placing_order(found["state"], is_findable):
        pass
    record_job(found["state"], "job_1")
    return found


def cut(found: dict[str, Any]) -> ApiError:
    return interruption_error(found, "store_unavailable", CAUSE, 5)


def test_before_anything_was_ordered_it_is_to_be_repeated() -> None:
    error = cut(scope())
    assert (error.status, error.answer_headers()) == (503, {"retry-after": "5"})
    assert "Nothing was ordered. Retry" in error.message


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answer_to_a_read_says_nothing_of_orders(method: str) -> None:
    error = cut(scope(method))
    assert (error.status, error.retry_after) == (503, 5)
    assert "order" not in error.message


def test_answer_to_a_read_names_its_job() -> None:
    found = scope("GET")
    found["state"]["job"] = "job_1"
    assert cut(found).answer_headers() == {"x-igw-job-id": "job_1", "retry-after": "5"}


def test_who_is_led_back_to_his_job_is_to_repeat_it() -> None:
    error = cut(accepted(is_findable=True))
    assert (error.status, error.answer_headers()) == (503, {"x-igw-job-id": "job_1", "retry-after": "5"})
    assert "GET /v1/jobs/job_1" in error.message


def test_who_would_order_anew_is_not() -> None:
    error = cut(accepted(is_findable=False))
    assert (error.status, error.answer_headers()) == (424, {"x-igw-job-id": "job_1", "x-should-retry": "false"})
    assert "GET /v1/jobs/job_1" in error.message
    assert "new purchase" in error.message


@pytest.mark.parametrize(("is_findable", "status"), [(True, 503), (False, 424)])
def test_who_is_cut_off_while_a_job_is_being_accepted_may_have_one(is_findable: bool, status: int) -> None:
    found = scope()
    with pytest.raises(RuntimeError), placing_order(found["state"], is_findable):
        raise RuntimeError
    assert cut(found).status == status
    assert "If a job was accepted" in cut(found).message
    assert internal_error(found).status == 424


@pytest.mark.parametrize("refusal", [ApiError(400, "wrong", "No."), StoreUnavailable("away"), StoreFull("full")])
def test_what_refuses_a_job_proves_that_there_is_none(refusal: Exception) -> None:
    found = scope()
    with pytest.raises(type(refusal)), placing_order(found["state"], is_findable=False):
        raise refusal
    assert cut(found).status == 503
    assert "Nothing was ordered" in cut(found).message


@pytest.mark.parametrize("is_findable", [True, False])
def test_a_fault_of_ours_is_repeated_by_nobody_once_there_is_a_job(is_findable: bool) -> None:
    error = internal_error(accepted(is_findable))
    assert (error.status, error.answer_headers()) == (424, {"x-igw-job-id": "job_1", "x-should-retry": "false"})
    assert "GET /v1/jobs/job_1" in error.message


def test_a_fault_of_ours_before_that_is_a_500() -> None:
    error = internal_error(scope())
    assert (error.status, error.answer_headers()) == (500, {"x-should-retry": "false"})
    assert "Nothing was ordered" in error.message
