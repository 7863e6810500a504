"""What callers are told when something is wrong: OpenAI's envelope on its routes, RFC 9457 problems on ours.

Every message says what to do. None repeats a seller's text, a key or a prompt.
"""

from typing import Any

import msgspec

OPENAI_ROUTE_PREFIXES = ("/v1/images", "/v1/models", "/openai/", "/images/")


class ApiError(Exception):
    """`final`: the same request again would end the same, or cost again; an SDK must not retry it by itself.

    Never so where `headers` say when to ask again.
    """

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.param: str | None = details.get("param")
        self.error_type: str = details.get("kind") or _ERROR_TYPES.get(
            status, "server_error" if status >= 500 else "invalid_request_error"
        )
        self.retry_after: int | None = details.get("retry_after")
        self.headers: dict[str, str] = details.get("headers") or {}
        self.final: bool = details.get("final", self.retry_after is None) and "retry-after" not in self.headers

    def response_headers(self) -> dict[str, str]:
        headers = dict(self.headers)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.final:
            headers["x-should-retry"] = "false"
        return headers

    def render(self, path: str, request_id: str | None) -> tuple[bytes, str]:
        """The answer's content in the form of its route, and the type of that."""
        if path.startswith(OPENAI_ROUTE_PREFIXES):
            return msgspec.json.encode(self.openai_body()), "application/json"
        return msgspec.json.encode(self.problem_body(request_id)), "application/problem+json"

    def openai_body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        return {"error": {"message": self.message, "type": self.error_type, "param": self.param, "code": self.code}}

    def problem_body(self, request_id: str | None = None) -> dict[str, Any]:
        """RFC 9457, with the same error in it."""
        return {
            "type": f"urn:image-gateway:problem:{self.code}",
            "title": self.code.replace("_", " "),
            "status": self.status,
            "detail": self.message,
            "request_id": request_id,
            **self.openai_body(),
        }


_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    424: "server_error",
    429: "rate_limit_error",
}
