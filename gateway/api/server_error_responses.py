"""Error responses for requests that failed because of the store, the storage, a shutdown or an internal error.

Before a job exists, nothing was ordered and a retry is safe (503). Afterwards the job continues: a retry is safe only
if it returns the same job, else the status is 424.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from gateway.api.api_errors import ApiError
from gateway.api.charge_sentences import CHARGED_IF_DELIVERED, NOT_CHARGED
from gateway.assets.backend import StorageError
from gateway.store.base import StoreError
from gateway.store.partitions import is_job_id

SHUTDOWN_RETRY_SECONDS = 1
# The key of the request's state under which JobCreation is kept.
_JOB_CREATION_KEY = "job_creation"
# Sellers post callbacks, admins post keys, and teams cancel jobs and ask for quotes: these order nothing.
_PREFIXES_WITHOUT_ORDERS = (
    *("/callbacks/", "/v1/admin/", "/v1/jobs/job_", "/v1/quotes"),
    *("/v1/responses/resp_", "/openai/v1/responses/resp_", "/responses/resp_"),
)


class JobCreation(Struct, frozen=True):
    """A request's job; `job_id` is None while the job may or may not have been saved.

    `is_idempotent`: a repetition of the request returns that job.
    """

    job_id: str | None
    is_idempotent: bool


@contextmanager
def track_job_creation(state: dict[str, Any], is_idempotent: bool) -> Iterator[None]:
    """Marks the request as possibly ordered while a job is created for it.

    Removes the mark after an ApiError, StoreError or StorageError: these prove that no job was created.
    """
    state[_JOB_CREATION_KEY] = JobCreation(None, is_idempotent)
    try:
        yield
    except (ApiError, StoreError, StorageError):
        del state[_JOB_CREATION_KEY]
        raise


def record_created_job(state: dict[str, Any], job_id: str) -> None:
    """Records the job that was created for the request."""
    state[_JOB_CREATION_KEY] = JobCreation(job_id, state[_JOB_CREATION_KEY].is_idempotent)
    state["job_id"] = job_id


def service_unavailable_error(scope: Mapping[str, Any], code: str, cause: str, retry_after: int) -> ApiError:
    """Builds a 503 for a condition that passes within `retry_after` seconds. `cause`: a sentence that names the
    condition."""
    creation, headers = _get_job_creation(scope), _build_job_id_header(scope)
    if creation is None:
        return ApiError(503, code, f"{cause} Retry the request.", retry_after=retry_after, headers=headers)
    if creation.is_idempotent:
        message = f"{cause} {_describe_running_job(creation)}; retry the same request to get that job."
        return ApiError(503, code, message, retry_after=retry_after, headers=headers)
    message = f"{cause} {_describe_running_job(creation)}; the same request again may be a new purchase."
    return ApiError(424, code, message, headers=headers)


def internal_error(scope: Mapping[str, Any]) -> ApiError:
    """Builds the response for a bug. It is not retryable: the same request would fail again, and might be a new
    purchase."""
    creation = _get_job_creation(scope)
    if creation is None:
        message = "Internal error. Report the x-request-id to your platform team."
        return ApiError(500, "internal_error", message, headers=_build_job_id_header(scope))
    return ApiError(
        424,
        "internal_error",
        f"Internal error. {_describe_running_job(creation)}.",
        headers=_build_job_id_header(scope),
    )


def select_charge_sentence(scope: Mapping[str, Any]) -> str:
    """Returns the sentence about the charge for an error of this request. It is empty if the request could not
    order."""
    if scope["method"] != "POST" or scope["path"].startswith(_PREFIXES_WITHOUT_ORDERS):
        return ""
    return NOT_CHARGED if _get_job_creation(scope) is None else CHARGED_IF_DELIVERED


def _get_job_creation(scope: Mapping[str, Any]) -> JobCreation | None:
    creation: JobCreation | None = scope["state"].get(_JOB_CREATION_KEY)
    return creation


def _build_job_id_header(scope: Mapping[str, Any]) -> dict[str, str]:
    """Builds the header with the id of the job. If no job was loaded, the id is taken from the path."""
    job_id = scope["state"].get("job_id") or _parse_job_id_from_path(scope)
    return {"x-igw-job-id": job_id} if job_id else {}


def _parse_job_id_from_path(scope: Mapping[str, Any]) -> str | None:
    job_id = scope.get("path_params", {}).get("job_id")
    return job_id if scope.get("path", "").startswith("/v1/jobs/") and job_id and is_job_id(job_id) else None


def _describe_running_job(creation: JobCreation) -> str:
    if creation.job_id is None:
        return "If a job was created for this request, it continues"
    return f"The job continues at GET /v1/jobs/{creation.job_id}"
