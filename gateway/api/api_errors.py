"""Defines ApiError, from which every error response is made: OpenAI's error body on OpenAI's routes, RFC 9457 problems
on all others.

A message says in at most two sentences what happened and what to do. It never contains a seller's text, a key or a
prompt. `render` appends the sentence about the charge.
"""

import re
from typing import Any

import msgspec

# Also of routes that this gateway does not have.
OPENAI_ROUTE_PREFIXES = (
    *("/v1/images", "/v1/models", "/v1/files", "/v1/batches", "/v1/responses"),
    *("/openai/", "/images/", "/models", "/responses", "/batches"),
)
# APIs of OpenAI that this gateway does not have. Their clients must be able to read the error, too.
_OTHER_OPENAI_API = re.compile(
    r"(?:/openai)?(?:/deployments/[^/]+)?(?:/v1)?/(assistants|audio|chat|completions|containers|conversations|embeddings"
    r"|evals|fine_tuning|moderations|realtime|threads|uploads|vector_stores|videos)(?:/|$)",
    re.IGNORECASE,
)
_REPEATED_SLASHES = re.compile("//+")
MIN_RETRY_AFTER_SECONDS, MAX_RETRY_AFTER_SECONDS = 1, 120


class ApiError(Exception):
    """An error response.

    `is_retryable=False` sends `x-should-retry: false`: the same request would fail again, or cost again. By default an
    error is retryable if it has a `retry_after`; with a Retry-After among its `headers` it always is. A retryable error
    always has a Retry-After, within the bounds that OpenAI's SDKs accept. `advised_wait`: the Retry-After, in seconds,
    of an error that SDKs must not retry by themselves. `charge_sentence`: given for a failed job; otherwise it follows
    from the request.
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
        advised_wait: int | None = None,
        charge_sentence: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        default_type = "server_error" if status >= 500 else "invalid_request_error"
        self.error_type = error_type or _ERROR_TYPES.get(status, default_type)
        self.charge_sentence, self.headers = charge_sentence, headers or {}
        if retry_after is None and "retry-after" in self.headers:
            retry_after, is_retryable = int(self.headers["retry-after"]), True
        self.is_retryable = retry_after is not None if is_retryable is None else is_retryable
        self.retry_after = _limit_retry_after(retry_after or 0) if self.is_retryable else advised_wait

    def build_response_headers(self) -> dict[str, str]:
        headers = dict(self.headers)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        headers["x-should-retry"] = "true" if self.is_retryable else "false"
        return headers

    def render(self, path: str, request_id: str | None, charge_sentence: str) -> tuple[bytes, str]:
        """Returns the body in the form of the request's route, and its media type.

        `charge_sentence`: that of the request, for errors that have none; empty if the request could not order.
        """
        body = self.build_openai_body(charge_sentence)
        if _is_openai_path(merge_slashes(path)):
            return msgspec.json.encode(body), "application/json"
        return msgspec.json.encode(self._build_problem_body(body, request_id)), "application/problem+json"

    def build_openai_body(self, charge_sentence: str) -> dict[str, Any]:
        """Builds the body that OpenAI's clients parse."""
        message = f"{self.message} {self.charge_sentence or charge_sentence}".rstrip()
        return {"error": {"message": message, "type": self.error_type, "param": self.param, "code": self.code}}

    def _build_problem_body(self, openai_body: dict[str, Any], request_id: str | None) -> dict[str, Any]:
        """Builds an RFC 9457 problem that also contains OpenAI's error."""
        return {
            "type": f"urn:image-gateway:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": openai_body["error"]["message"],
            "request_id": request_id,
            **openai_body,
        }


def find_other_openai_api(path: str) -> str | None:
    """Returns the name of the API of OpenAI that the path belongs to, if this gateway does not have it."""
    match = _OTHER_OPENAI_API.match(path)
    return match[1] if match else None


def _is_openai_path(path: str) -> bool:
    return path.startswith(OPENAI_ROUTE_PREFIXES) or find_other_openai_api(path) is not None


def merge_slashes(path: str) -> str:
    """Merges repeated slashes, which the framework ignores when it selects a route."""
    return _REPEATED_SLASHES.sub("/", path)


def _limit_retry_after(seconds: int) -> int:
    """Limits the seconds: OpenAI's node SDK retries at once after 0, its Python SDK not at all after more than 120."""
    return min(max(seconds, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)


_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    424: "server_error",
    429: "rate_limit_error",
}
