"""OpenAI's error bodies: type and message of each code."""

DEFAULT_ERROR_TYPE = "invalid_request_error"
# Codes that are not listed have the default type, or `server_error` for 5xx.
TYPES_BY_CODE = {
    "insufficient_quota": "insufficient_quota",
    "moderation_blocked": "image_generation_user_error",
    "rate_limit_exceeded": "requests",
}
CODES_BY_STATUS = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
MESSAGES_BY_CODE = {
    "invalid_api_key": "Incorrect API key provided. The sandbox accepts only sk-sandbox.",
    "insufficient_quota": "You exceeded your current quota, please check your plan and billing details.",
    "moderation_blocked": "Your request was rejected by the safety system. moderation_stage=output categories=other",
    "rate_limit_exceeded": "Rate limit reached for images. Please try again later.",
    "server_error": "The server had an error while processing your request.",
}
MESSAGES_BY_STATUS = {
    403: "You are not allowed to do this.",
    404: "Invalid URL.",
    405: "Not allowed to use this method on this URL.",
    413: "The request is too large.",
}


class OpenaiError(Exception):
    """An error response, raised where its reason is found."""

    def __init__(self, status: int, code: str | None, message: str | None = None, param: str | None = None) -> None:
        super().__init__(message or code)
        self.status = status
        self.body = build_error_body(status, code, message, param)


def invalid_param_error(param: str, message: str, code: str = "invalid_value") -> OpenaiError:
    """Makes the error for one invalid parameter."""
    return OpenaiError(400, code, message, param)


def build_error_body(
    status: int, code: str | None = None, message: str | None = None, param: str | None = None
) -> dict[str, dict[str, str | None]]:
    """Builds an error body. All four members are always present; `param` and `code` may be null."""
    code = code or CODES_BY_STATUS.get(status) or ("server_error" if status >= 500 else None)
    default_type = "server_error" if status >= 500 else DEFAULT_ERROR_TYPE
    return {
        "error": {
            "message": message
            or MESSAGES_BY_CODE.get(code or "")
            or MESSAGES_BY_STATUS.get(status, "The request was rejected."),
            "type": TYPES_BY_CODE.get(code or "", default_type),
            "param": param,
            "code": code,
        }
    }
