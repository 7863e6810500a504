"""Answers to requests that the gateway could not complete because of its store, a shutdown or an internal error.

A repeated request is right before the request became a job, since nothing was ordered.
Afterwards the job goes on, and a repeated request is right only if it leads back to that job.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from gateway.api.api_errors import ApiError
from gateway.assets.backend import StorageError
from gateway.store.base import StoreError
from gateway.store.partitions import is_job_id

STORE_RETRY_SECONDS, SHUTDOWN_RETRY_SECONDS = 5, 1
# Where a request's state keeps the job that it has become.
_JOB_CREATION_KEY = "order"


class JobCreation(Struct, frozen=True):
    """What a request has become, or may have become already: then `job_id` is not known yet.

    `is_idempotent`: the same request again finds the job. By its key, or because its client says when it repeats.
    """

    job_id: str | None
    is_idempotent: bool


@contextmanager
def track_job_creation(state: dict[str, Any], is_idempotent: bool) -> Iterator[None]:
    """While a job is being accepted for the request: only a refusal proves that none was."""
    state[_JOB_CREATION_KEY] = JobCreation(None, is_idempotent)
    try:
        yield
    except (ApiError, StoreError, StorageError):
        del state[_JOB_CREATION_KEY]
        raise


def record_created_job(state: dict[str, Any], job_id: str) -> None:
    """The job that the request has become."""
    state[_JOB_CREATION_KEY] = JobCreation(job_id, state[_JOB_CREATION_KEY].is_idempotent)
    state["job"] = job_id


def service_unavailable_error(scope: Mapping[str, Any], code: str, cause: str, retry_after: int) -> ApiError:
    """What passes in so many seconds. `cause` is a sentence that says what does not work."""
    creation, headers = _get_job_creation(scope), _build_job_id_header(scope)
    if creation is None:
        order_sentence = "" if scope["method"] in ("GET", "HEAD") else "Nothing was ordered. "
        return ApiError(
            503, code, f"{cause} {order_sentence}Retry the request.", retry_after=retry_after, headers=headers
        )
    if creation.is_idempotent:
        message = f"{cause} {_describe_running_job(creation)}. Retry the same request: it leads to that job."
        return ApiError(503, code, message, retry_after=retry_after, headers=headers)
    message = f"{cause} {_describe_running_job(creation)}. The same request again may be a new purchase."
    return ApiError(424, code, message, headers=headers)


def internal_error(scope: Mapping[str, Any]) -> ApiError:
    """A fault of ours: the same again would meet it again, and may be a new purchase."""
    creation, cause = _get_job_creation(scope), "Something went wrong here."
    if creation is None:
        return ApiError(500, "internal_error", f"{cause} Nothing was ordered.", headers=_build_job_id_header(scope))
    return ApiError(
        424, "internal_error", f"{cause} {_describe_running_job(creation)}.", headers=_build_job_id_header(scope)
    )


def _get_job_creation(scope: Mapping[str, Any]) -> JobCreation | None:
    creation: JobCreation | None = scope["state"].get(_JOB_CREATION_KEY)
    return creation


def _build_job_id_header(scope: Mapping[str, Any]) -> dict[str, str]:
    """The job that the request is about: also where its address is all that is known of it."""
    job_id = scope["state"].get("job") or _parse_job_id_from_path(scope)
    return {"x-igw-job-id": job_id} if job_id else {}


def _parse_job_id_from_path(scope: Mapping[str, Any]) -> str | None:
    job_id = scope.get("path_params", {}).get("job_id")
    return job_id if scope.get("path", "").startswith("/v1/jobs/") and job_id and is_job_id(job_id) else None


def _describe_running_job(creation: JobCreation) -> str:
    if creation.job_id is None:
        return "If a job was accepted for this request, it goes on"
    return f"The job goes on: GET /v1/jobs/{creation.job_id}"
