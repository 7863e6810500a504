"""Parsing of RunAPI's errors: `{error: text}`, the same with `errors` by field, and `{error: {code, message}}`."""

from providers import parsing
from providers.adapter import Answer
from providers.faults import Fault, FaultKind, detect_content_refusal, fault_kind_from_status
from providers.parsing import JsonObject, ParseError, get_object

FAULTS_BY_CODE = {"rate_limited": FaultKind.RATE_LIMITED, "request_conflict": FaultKind.IDEMPOTENCY_CONFLICT}
# The seller's own message that it did not accept the order. Any other 503 may come from a proxy.
NO_CHANNEL_MESSAGE = "no active channel available"


def parse_error(answer: Answer) -> Fault:
    """Parses the error of a failed call."""
    code, messages = parse_code_and_messages(_parse_body(answer))
    return Fault(
        kind=_classify_fault(answer.status, code, messages),
        status=answer.status,
        code=code,
        message=parsing.sanitize_text("; ".join(messages)),
        retry_after=parsing.parse_retry_after(answer.headers),
    )


def parse_code_and_messages(body: JsonObject) -> tuple[str | None, list[str]]:
    """Returns the code and all messages, without field names, which may contain anything."""
    nested = get_object(body, "error")
    code = parsing.parse_code(nested.get("code") or body.get("code"))
    field_messages = [
        text for texts in get_object(body, "errors").values() if isinstance(texts, list) for text in texts[:4]
    ]
    candidates = [nested.get("message"), body.get("error"), body.get("message"), *field_messages[:8]]
    return code, [message for value in candidates if (message := parsing.sanitize_text(value))]


def _classify_fault(status: int, code: str | None, messages: list[str]) -> FaultKind:
    kind = detect_content_refusal(FAULTS_BY_CODE.get(code or "", fault_kind_from_status(status)), code, *messages)
    has_no_channel = kind is FaultKind.OVERLOADED and any(
        text.lower().startswith(NO_CHANNEL_MESSAGE) for text in messages
    )
    return FaultKind.UNAVAILABLE if has_no_channel else kind


def _parse_body(answer: Answer) -> JsonObject:
    try:
        return parsing.parse_json_object(answer.body)
    except ParseError:
        return {}
