"""Error responses for jobs that ended without images.

Clients do not automatically retry a 400 or a 424. A 503 is sent only if nothing was charged.
"""

from msgspec import Struct

from gateway.api.api_errors import ApiError
from gateway.api.charge_sentences import SENTENCES_OF_FAILED_JOBS
from gateway.jobs.failed_job_retry_safety import JobFailure, classify_failure
from gateway.jobs.job import Job, JobState
from providers.faults import CONTENT_FAULTS, ChargeStatus, FaultKind


class FailureResponse(Struct, frozen=True, kw_only=True):
    """The response for a failed job. `explanation`: its message without the sentence about the charge.

    `retry_after`: set only where nothing was charged and the same request may succeed.
    """

    status: int
    code: str
    explanation: str
    charge_sentence: str
    charge_status: ChargeStatus
    error_type: str | None = None
    retry_after: int | None = None

    @property
    def message(self) -> str:
        return f"{self.explanation} {self.charge_sentence}"


def build_failure_response(job: Job) -> FailureResponse:
    """Builds the error response for a job that ended without images."""
    return respond_to_failure(classify_failure(job))


def _format_seconds(seconds: int) -> str:
    return f"{seconds} second" if seconds == 1 else f"{seconds} seconds"


def respond_to_failure(failure: JobFailure) -> FailureResponse:
    status, code = _select_status_and_code(failure)
    retry_after = failure.retry_after if failure.is_safe_to_retry else None
    advice = _PURCHASE_WARNINGS[failure.charge_status]
    if retry_after is not None:
        advice = f"Retry in {_format_seconds(retry_after)}, with a new Idempotency-Key if you sent one."
    return FailureResponse(
        status=status,
        code=code,
        explanation=f"{_describe_cause(failure)} {advice}".rstrip(),
        charge_sentence=SENTENCES_OF_FAILED_JOBS[failure.charge_status],
        charge_status=failure.charge_status,
        error_type="image_generation_user_error" if status == 400 else None,
        retry_after=retry_after,
    )


def build_failure_error(job: Job, headers: dict[str, str]) -> ApiError:
    """Builds the same response as an ApiError, with the headers of the job."""
    response = build_failure_response(job)
    has_attempts = response.status == 424 and job.attempts
    hint = f" GET /v1/jobs/{job.id} shows what each seller said." if has_attempts else ""
    return ApiError(
        response.status,
        response.code,
        f"{response.explanation}{hint}",
        error_type=response.error_type,
        headers=headers,
        retry_after=response.retry_after,
        charge_sentence=response.charge_sentence,
    )


def _select_status_and_code(failure: JobFailure) -> tuple[int, str]:
    """Selects the HTTP status and the error code."""
    if failure.state is JobState.CANCELLED:
        return (503, "withdrawn") if failure.is_safe_to_retry else (424, "cancelled")
    if failure.fault in CONTENT_FAULTS:
        return 400, "moderation_blocked"
    if failure.fault is FaultKind.IMAGE_UNMODERATED:
        return 424, "moderation_unavailable"
    if failure.charge_status is not ChargeStatus.NOT_CHARGED:
        return 424, "outcome_unknown" if failure.charge_status is ChargeStatus.UNKNOWN else "paid_not_delivered"
    code = _CODES_BY_FAULT.get(failure.fault, "sellers_unavailable" if failure.is_safe_to_retry else "sellers_failed")
    return 503 if failure.is_safe_to_retry else 424, "deadline_exceeded" if failure.state is JobState.EXPIRED else code


def _describe_cause(failure: JobFailure) -> str:
    if failure.state is JobState.CANCELLED and failure.is_safe_to_retry:
        return "The job was withdrawn because the process that accepted it stopped."
    if failure.state is JobState.CANCELLED:
        return "The job was cancelled."
    if failure.state is JobState.EXPIRED and failure.fault not in CONTENT_FAULTS:
        return "The job did not complete before its deadline."
    default = (
        "No seller could accept the order." if failure.is_safe_to_retry else _CAUSES_BY_CHARGE[failure.charge_status]
    )
    return _CAUSES_BY_FAULT.get(failure.fault, default)


_CODES_BY_FAULT: dict[FaultKind | None, str] = {
    FaultKind.INVALID_ORDER: "order_refused",
    FaultKind.INPUT_MISSING: "input_missing",
}
# The causes as the client sees them, each in one sentence.
_CAUSES_BY_FAULT: dict[FaultKind | None, str] = {
    FaultKind.CONTENT_REFUSED: "The seller's content filter rejected this request: change the prompt or the images.",
    FaultKind.INPUT_MISSING: "An input image or the request of this job cannot be read, so no order could be sent.",
    FaultKind.INVALID_ORDER: "The seller rejected the order as invalid.",
    FaultKind.ORDER_CANCELLED: "The order was cancelled at the seller.",
    FaultKind.ORDER_TIMED_OUT: "The seller accepted the order and did not finish it in time.",
    FaultKind.NO_IMAGES: "The seller reported success and delivered no image.",
    FaultKind.IMAGES_EXPIRED: "The seller made the images, but they could not be downloaded.",
    FaultKind.IMAGE_WITHHELD: "The moderation hook 'after' refused the images: change the prompt or the input images.",
    FaultKind.IMAGE_UNMODERATED: "The moderation hook 'after' gave no valid answer, so the images are withheld.",
}
_CAUSES_BY_CHARGE = {
    ChargeStatus.NOT_CHARGED: "No seller could fulfil the order.",
    ChargeStatus.UNKNOWN: "The seller's response to the order was lost or unclear.",
    ChargeStatus.CHARGED: "The order failed at the seller.",
}
_PURCHASE_WARNINGS = {
    ChargeStatus.NOT_CHARGED: "",
    ChargeStatus.UNKNOWN: "The same request with a new Idempotency-Key is a new purchase.",
    ChargeStatus.CHARGED: "The same request again is a new purchase.",
}
