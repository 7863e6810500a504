"""RunAPI's three shapes of an error: `{error: text}`, that with `errors` by field, and `{error: {code, message}}`."""

from providers import reading
from providers.faults import Fault, FaultKind, kind_of_status, unless_refused
from providers.reading import Object, Unclear, child
from providers.spec import Answer

CODES = {"rate_limited": FaultKind.RATE_LIMITED, "request_conflict": FaultKind.CONFLICT}


def error(answer: Answer) -> Fault:
    """What a refused exchange says."""
    body = _body(answer)
    code, message = words(body)
    return Fault(
        kind=_kind(answer.status, code, message),
        status=answer.status,
        code=code,
        message=message,
        retry_after=reading.retry_after(answer.headers),
    )


def words(body: Object) -> tuple[str | None, str]:
    """Code and message, from wherever this shape keeps them; the fields of `errors` are named behind the message."""
    nested = child(body, "error")
    code = reading.word(nested.get("code") or body.get("code"))
    message = reading.shown(nested.get("message") or body.get("error") or body.get("message"))
    fields = ", ".join(reading.shown(name) for name in list(child(body, "errors"))[:8])
    return code, f"{message}: {fields}" if fields else message


def _kind(status: int, code: str | None, message: str) -> FaultKind:
    kind = unless_refused(CODES.get(code or "", kind_of_status(status)), code, message)
    # 503 in the seller's own envelope: whenever a task exists its id stands in a header, so here there is none.
    return FaultKind.UNAVAILABLE if kind is FaultKind.OVERLOADED and message else kind


def _body(answer: Answer) -> Object:
    try:
        return reading.document(answer.body)
    except Unclear:
        return {}
