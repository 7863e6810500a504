"""What callers are told when something is wrong: OpenAI's envelope on its routes, RFC 9457 problems on ours.

Every message says what to do. None repeats a seller's text, a key or a prompt.
"""

from typing import Any

import msgspec
from msgspec import Struct

from gateway.jobs.booking import NOT_TAKEN
from providers.faults import FaultKind

OPENAI_ROUTES = ("/v1/images", "/v1/models")


class ApiError(Exception):
    """`final`: the same request again would end the same, or cost again; an SDK must not retry it by itself.

    Never so where `headers` say when to ask again.
    """

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.param: str | None = more.get("param")
        self.kind: str = more.get("kind") or _KINDS.get(
            status, "server_error" if status >= 500 else "invalid_request_error"
        )
        self.retry_after: int | None = more.get("retry_after")
        self.headers: dict[str, str] = more.get("headers") or {}
        self.final: bool = more.get("final", self.retry_after is None) and "retry-after" not in self.headers

    def answer_headers(self) -> dict[str, str]:
        headers = dict(self.headers)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.final:
            headers["x-should-retry"] = "false"
        return headers

    def told(self, path: str, request_id: str | None) -> tuple[bytes, str]:
        """The answer's content in the form of its route, and the type of that."""
        if path.startswith(OPENAI_ROUTES):
            return msgspec.json.encode(self.envelope()), "application/json"
        return msgspec.json.encode(self.problem(request_id)), "application/problem+json"

    def envelope(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def problem(self, request_id: str | None = None) -> dict[str, Any]:
        """RFC 9457, with the same error in it."""
        return {
            "type": f"urn:image-gateway:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": self.message,
            "request_id": request_id,
            **self.envelope(),
        }


_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class Ending(Struct, frozen=True):
    """How a job's ending without images is told."""

    status: int
    code: str
    message: str
    kind: str | None = None


_ENDINGS: dict[FaultKind, Ending] = {
    FaultKind.CONTENT_REFUSED: Ending(
        400,
        "moderation_blocked",
        "The seller's safety system refused this request. Change the prompt or the images; it was not charged.",
        "image_generation_user_error",
    ),
    FaultKind.BAD_ORDER: Ending(
        502, "order_refused", "Whoever was asked found something wrong with the order. Nothing was charged."
    ),
    FaultKind.OVERDUE: Ending(504, "seller_overdue", "The seller did not finish in time. You were not charged."),
    FaultKind.LOST: Ending(
        502,
        "outcome_unknown",
        "A seller's answer was lost, and buying again might have bought twice. You were not charged; asking again is "
        "a new order.",
    ),
    **dict.fromkeys(
        NOT_TAKEN,
        Ending(
            503,
            "sellers_unavailable",
            "No seller could take the order. Nothing was charged. Ask again in a minute, with another Idempotency-Key "
            "if you sent one.",
        ),
    ),
}
_OTHER = Ending(502, "sellers_failed", "No seller could deliver the images. You were not charged.")
_EXPIRED = Ending(504, "deadline_exceeded", "The images were not there by the job's deadline. You were not charged.")
_CANCELLED = Ending(409, "cancelled", "The job was cancelled.")


def ending_of(fault: FaultKind | None, state: str) -> Ending:
    if state == "cancelled":
        return _CANCELLED
    if fault in _ENDINGS:
        return _ENDINGS[fault]
    return _EXPIRED if state == "expired" else _OTHER
