"""Answers to requests that the gateway could not complete because of its store, a shutdown or an internal error.

A repeated request is right before the request became a job, since nothing was ordered.
Afterwards the job goes on, and a repeated request is right only if it leads back to that job.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from gateway.api.errors import ApiError
from gateway.assets.base import ShelfError
from gateway.store.base import StoreError
from gateway.store.partitions import is_job_id

STORE_SECONDS, LEAVING_SECONDS = 5, 1
# Where a request's state keeps the job that it has become.
_ORDER = "order"


class PlacedOrder(Struct, frozen=True):
    """What a request has become, or may have become already: then `job` is not known yet.

    `is_findable`: the same request again finds the job. By its key, or because its client says when it repeats.
    """

    job: str | None
    is_findable: bool


@contextmanager
def placing_order(state: dict[str, Any], is_findable: bool) -> Iterator[None]:
    """While a job is being accepted for the request: only a refusal proves that none was."""
    state[_ORDER] = PlacedOrder(None, is_findable)
    try:
        yield
    except (ApiError, StoreError, ShelfError):
        del state[_ORDER]
        raise


def record_job(state: dict[str, Any], job: str) -> None:
    """The job that the request has become."""
    state[_ORDER] = PlacedOrder(job, state[_ORDER].is_findable)
    state["job"] = job


def interruption_error(scope: Mapping[str, Any], code: str, cause: str, seconds: int) -> ApiError:
    """What passes in so many seconds. `cause` is a sentence that says what does not work."""
    order, headers = _order(scope), _headers(scope)
    if order is None:
        ordered = "" if scope["method"] in ("GET", "HEAD") else "Nothing was ordered. "
        return ApiError(503, code, f"{cause} {ordered}Retry the request.", retry_after=seconds, headers=headers)
    if order.is_findable:
        message = f"{cause} {_goes_on(order)}. Retry the same request: it leads to that job."
        return ApiError(503, code, message, retry_after=seconds, headers=headers)
    message = f"{cause} {_goes_on(order)}. The same request again may be a new purchase."
    return ApiError(424, code, message, headers=headers)


def internal_error(scope: Mapping[str, Any]) -> ApiError:
    """A fault of ours: the same again would meet it again, and may be a new purchase."""
    order, cause = _order(scope), "Something went wrong here."
    if order is None:
        return ApiError(500, "internal_error", f"{cause} Nothing was ordered.", headers=_headers(scope))
    return ApiError(424, "internal_error", f"{cause} {_goes_on(order)}.", headers=_headers(scope))


def _order(scope: Mapping[str, Any]) -> PlacedOrder | None:
    order: PlacedOrder | None = scope["state"].get(_ORDER)
    return order


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    """The job that the request is about: also where its address is all that is known of it."""
    job = scope["state"].get("job") or _job_in_address(scope)
    return {"x-igw-job-id": job} if job else {}


def _job_in_address(scope: Mapping[str, Any]) -> str | None:
    name = scope.get("path_params", {}).get("job_id")
    return name if scope.get("path", "").startswith("/v1/jobs/") and name and is_job_id(name) else None


def _goes_on(order: PlacedOrder) -> str:
    if order.job is None:
        return "If a job was accepted for this request, it goes on"
    return f"The job goes on: GET /v1/jobs/{order.job}"
