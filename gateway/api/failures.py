"""Answers about jobs that ended without images. The status says whether to repeat: no client repeats a 400 or a 424
automatically.
"""

from msgspec import Struct

from gateway.api.errors import ApiError
from gateway.jobs.failure import Failure, classify_failure
from gateway.jobs.job import Job, State
from providers.faults import Bought, FaultKind

# What kept all sellers from taking an order (no credit, a limit, a key) lasts for a while, unless one of them said for
# how long. OpenAI's clients take no longer pause than this from a Retry-After.
UNAVAILABLE_SECONDS = 60


class FailureResponse(Struct, frozen=True, kw_only=True):
    """`retry_after`: only where nothing was bought, and the same request is right."""

    status: int
    code: str
    message: str
    kind: str | None = None
    retry_after: int | None = None


def failure_response(job: Job) -> FailureResponse:
    """For a job that has ended without an image."""
    failure = classify_failure(job)
    status, code = _identity(failure)
    seconds = (failure.retry_after or UNAVAILABLE_SECONDS) if failure.may_be_repeated else None
    again = f" Retry in {seconds} seconds, with a new Idempotency-Key if you sent one." if seconds else ""
    return FailureResponse(
        status=status,
        code=code,
        message=f"{_cause(failure)} {_MONEY[failure.bought]}{again}",
        kind="image_generation_user_error" if status == 400 else None,
        retry_after=seconds,
    )


def failure_error(job: Job, headers: dict[str, str]) -> ApiError:
    """The same as an answer. `headers`: the job's."""
    response = failure_response(job)
    return ApiError(
        response.status,
        response.code,
        response.message,
        kind=response.kind,
        headers=headers,
        retry_after=response.retry_after,
    )


def _identity(failure: Failure) -> tuple[int, str]:
    """The status and the code."""
    if failure.state is State.CANCELLED:
        return (503, "withdrawn") if failure.may_be_repeated else (424, "cancelled")
    if failure.fault is FaultKind.CONTENT_REFUSED:
        return 400, "moderation_blocked"
    if failure.bought is not Bought.NO:
        return 424, "outcome_unknown" if failure.bought is Bought.PERHAPS else "paid_not_delivered"
    code = _CODES.get(failure.fault, "sellers_unavailable" if failure.may_be_repeated else "sellers_failed")
    return 503 if failure.may_be_repeated else 424, "deadline_exceeded" if failure.state is State.EXPIRED else code


def _cause(failure: Failure) -> str:
    if failure.state is State.CANCELLED and failure.may_be_repeated:
        return "The job was withdrawn: the process that had accepted it is gone."
    if failure.state is State.CANCELLED:
        return "The job was cancelled."
    if failure.state is State.EXPIRED and failure.fault is not FaultKind.CONTENT_REFUSED:
        return "The images were not there by the job's deadline."
    other = "No seller could take the order." if failure.may_be_repeated else _OTHERS[failure.bought]
    return _CAUSES.get(failure.fault, other)


_CODES: dict[FaultKind | None, str] = {
    FaultKind.BAD_ORDER: "order_refused",
    FaultKind.INPUT_MISSING: "input_missing",
}
# For faults whose cause the client may see, beside whether money was spent.
_CAUSES: dict[FaultKind | None, str] = {
    FaultKind.CONTENT_REFUSED: "The seller's safety system refused this request: change the prompt or the images.",
    FaultKind.INPUT_MISSING: "An input of this job is no longer stored, so nothing could be ordered.",
    FaultKind.BAD_ORDER: "The seller rejected the order as invalid.",
    FaultKind.CANCELLED: "The order was cancelled at the seller.",
    FaultKind.OVERDUE: "The seller took the order and did not finish it in time.",
    FaultKind.EMPTY: "The seller reported success and delivered no image.",
    FaultKind.EXPIRED: "The seller made the images, and they could not be fetched.",
}
_OTHERS = {
    Bought.NO: "No seller could make the images.",
    Bought.PERHAPS: "The seller's answer to the order was lost, or said nothing that can be relied on.",
    Bought.YES: "The seller charged for an order that it did not deliver.",
}
_MONEY = {
    Bought.NO: "Nothing was bought, and you were not charged.",
    Bought.PERHAPS: "An order may have been bought; you were not charged. "
    "The same request with a new Idempotency-Key is a new purchase.",
    Bought.YES: "The seller was paid; you were not charged. The same request again is a new purchase.",
}
