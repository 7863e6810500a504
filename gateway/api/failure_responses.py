"""Answers about jobs that ended without images. The status says whether to repeat: no client repeats a 400 or a 424
automatically.
"""

from msgspec import Struct

from gateway.api.api_errors import ApiError
from gateway.jobs.failure import JobFailure, classify_failure
from gateway.jobs.job import Job, JobState
from providers.faults import ChargeStatus, FaultKind

# What kept all sellers from taking an order (no credit, a limit, a key) lasts for a while, unless one of them said for
# how long. OpenAI's clients take no longer pause than this from a Retry-After.
UNAVAILABLE_RETRY_SECONDS = 60


class FailureResponse(Struct, frozen=True, kw_only=True):
    """`retry_after`: only where nothing was bought, and the same request is right."""

    status: int
    code: str
    message: str
    error_type: str | None = None
    retry_after: int | None = None


def build_failure_response(job: Job) -> FailureResponse:
    """For a job that has ended without an image."""
    failure = classify_failure(job)
    status, code = _select_status_and_code(failure)
    retry_after = (failure.retry_after or UNAVAILABLE_RETRY_SECONDS) if failure.is_safe_to_retry else None
    retry_advice = (
        f" Retry in {retry_after} seconds, with a new Idempotency-Key if you sent one." if retry_after else ""
    )
    return FailureResponse(
        status=status,
        code=code,
        message=f"{_describe_cause(failure)} {_CHARGE_SENTENCES[failure.charge_status]}{retry_advice}",
        error_type="image_generation_user_error" if status == 400 else None,
        retry_after=retry_after,
    )


def build_failure_error(job: Job, headers: dict[str, str]) -> ApiError:
    """The same as an answer. `headers`: the job's."""
    response = build_failure_response(job)
    return ApiError(
        response.status,
        response.code,
        response.message,
        kind=response.error_type,
        headers=headers,
        retry_after=response.retry_after,
    )


def _select_status_and_code(failure: JobFailure) -> tuple[int, str]:
    """The status and the code."""
    if failure.state is JobState.CANCELLED:
        return (503, "withdrawn") if failure.is_safe_to_retry else (424, "cancelled")
    if failure.fault is FaultKind.CONTENT_REFUSED:
        return 400, "moderation_blocked"
    if failure.charge_status is not ChargeStatus.NOT_CHARGED:
        return 424, "outcome_unknown" if failure.charge_status is ChargeStatus.UNKNOWN else "paid_not_delivered"
    code = _CODES_BY_FAULT.get(failure.fault, "sellers_unavailable" if failure.is_safe_to_retry else "sellers_failed")
    return 503 if failure.is_safe_to_retry else 424, "deadline_exceeded" if failure.state is JobState.EXPIRED else code


def _describe_cause(failure: JobFailure) -> str:
    if failure.state is JobState.CANCELLED and failure.is_safe_to_retry:
        return "The job was withdrawn: the process that had accepted it is gone."
    if failure.state is JobState.CANCELLED:
        return "The job was cancelled."
    if failure.state is JobState.EXPIRED and failure.fault is not FaultKind.CONTENT_REFUSED:
        return "The images were not there by the job's deadline."
    default = (
        "No seller could take the order." if failure.is_safe_to_retry else _CAUSES_BY_CHARGE[failure.charge_status]
    )
    return _CAUSES_BY_FAULT.get(failure.fault, default)


_CODES_BY_FAULT: dict[FaultKind | None, str] = {
    FaultKind.INVALID_ORDER: "order_refused",
    FaultKind.INPUT_MISSING: "input_missing",
}
# For faults whose cause the client may see, beside whether money was spent.
_CAUSES_BY_FAULT: dict[FaultKind | None, str] = {
    FaultKind.CONTENT_REFUSED: "The seller's safety system refused this request: change the prompt or the images.",
    FaultKind.INPUT_MISSING: "An input of this job is no longer stored, so nothing could be ordered.",
    FaultKind.INVALID_ORDER: "The seller rejected the order as invalid.",
    FaultKind.ORDER_CANCELLED: "The order was cancelled at the seller.",
    FaultKind.ORDER_TIMED_OUT: "The seller took the order and did not finish it in time.",
    FaultKind.NO_IMAGES: "The seller reported success and delivered no image.",
    FaultKind.IMAGES_EXPIRED: "The seller made the images, and they could not be fetched.",
}
_CAUSES_BY_CHARGE = {
    ChargeStatus.NOT_CHARGED: "No seller could make the images.",
    ChargeStatus.UNKNOWN: "The seller's answer to the order was lost, or said nothing that can be relied on.",
    ChargeStatus.CHARGED: "The seller charged for an order that it did not deliver.",
}
_CHARGE_SENTENCES = {
    ChargeStatus.NOT_CHARGED: "Nothing was bought, and you were not charged.",
    ChargeStatus.UNKNOWN: "An order may have been bought; you were not charged. "
    "The same request with a new Idempotency-Key is a new purchase.",
    ChargeStatus.CHARGED: "The seller was paid; you were not charged. The same request again is a new purchase.",
}
