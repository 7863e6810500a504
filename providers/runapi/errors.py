"""Parsing of RunAPI's errors: `{error: text}`, the same with `errors` by field, and `{error: {code, message}}`."""

from providers import parsing
from providers.adapter import Answer
from providers.faults import Fault, FaultKind, detect_content_refusal, fault_kind_from_status
from providers.parsing import JsonObject, get_object

FAULTS_BY_CODE = {"rate_limited": FaultKind.RATE_LIMITED, "request_conflict": FaultKind.IDEMPOTENCY_CONFLICT}
# The seller's own message that it did not accept the order. Any other 503 may come from a proxy.
NO_CHANNEL_MESSAGE = "no active channel available"


def parse_error(answer: Answer) -> Fault:
    """Parses the error of a failed call."""
    code, messages = parse_code_and_messages(parsing.parse_error_body(answer))
    return Fault(
        kind=_classify_fault(answer.status, code, messages),
        status=answer.status,
        code=code,
        message=parsing.join_messages(messages, answer),
        retry_after=parsing.parse_retry_after(answer.headers),
    )


def parse_code_and_messages(body: JsonObject) -> tuple[str | None, list[str]]:
    code = parsing.parse_code(get_object(body, "error").get("code") or body.get("code"))
    return code, parsing.list_error_messages(body)


def _classify_fault(status: int, code: str | None, messages: list[str]) -> FaultKind:
    kind = detect_content_refusal(FAULTS_BY_CODE.get(code or "", fault_kind_from_status(status)), code, *messages)
    has_no_channel = kind is FaultKind.OVERLOADED and any(
        text.lower().startswith(NO_CHANNEL_MESSAGE) for text in messages
    )
    return FaultKind.UNAVAILABLE if has_no_channel else kind
