"""Defines ApiError, from which every error response is made: OpenAI's error body on OpenAI's routes, RFC 9457 problems
on all others.

A message says in at most two sentences what happened and what to do. It never contains a seller's text, a key or a
prompt. `render` appends the sentence about the charge.
"""

from typing import Any

import msgspec

OPENAI_ROUTE_PREFIXES = ("/v1/images", "/v1/models", "/openai/", "/images/")


class ApiError(Exception):
    """An error response.

    `is_retryable=False` sends `x-should-retry: false`: the same request would fail again, or cost again. By default an
    error is retryable if it has a `retry_after`; with a Retry-After among its `headers` it always is.
    `charge_sentence`: given for a failed job; otherwise it follows from the request.
    """

    def __init__(  # noqa: PLR0913  all but three are optional keywords
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        error_type: str | None = None,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
        is_retryable: bool | None = None,
        charge_sentence: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        default_type = "server_error" if status >= 500 else "invalid_request_error"
        self.error_type = error_type or _ERROR_TYPES.get(status, default_type)
        self.retry_after, self.charge_sentence = retry_after, charge_sentence
        self.headers = headers or {}
        is_retryable = retry_after is not None if is_retryable is None else is_retryable
        self.is_retryable = is_retryable or "retry-after" in self.headers

    def build_response_headers(self) -> dict[str, str]:
        headers = dict(self.headers)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if not self.is_retryable:
            headers["x-should-retry"] = "false"
        return headers

    def render(self, path: str, request_id: str | None, charge_sentence: str) -> tuple[bytes, str]:
        """Returns the body in the form of the request's route, and its media type.

        `charge_sentence`: that of the request, for errors that have none; empty if the request could not order.
        """
        message = f"{self.message} {self.charge_sentence or charge_sentence}".rstrip()
        if path.startswith(OPENAI_ROUTE_PREFIXES):
            return msgspec.json.encode(self._build_openai_body(message)), "application/json"
        return msgspec.json.encode(self._build_problem_body(message, request_id)), "application/problem+json"

    def _build_openai_body(self, message: str) -> dict[str, Any]:
        """Builds the body that OpenAI's clients parse."""
        return {"error": {"message": message, "type": self.error_type, "param": self.param, "code": self.code}}

    def _build_problem_body(self, message: str, request_id: str | None) -> dict[str, Any]:
        """Builds an RFC 9457 problem that also contains OpenAI's error."""
        return {
            "type": f"urn:image-gateway:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": message,
            "request_id": request_id,
            **self._build_openai_body(message),
        }


_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    424: "server_error",
    429: "rate_limit_error",
}
