"""RunAPI's three shapes of an error: `{error: text}`, that with `errors` by field, and `{error: {code, message}}`."""

from providers import reading
from providers.faults import Fault, FaultKind, kind_of_status, unless_refused
from providers.reading import Object, Unclear, child
from providers.spec import Answer

CODES = {"rate_limited": FaultKind.RATE_LIMITED, "request_conflict": FaultKind.CONFLICT}
# The seller's own word that it did not take the order. Any other 503 may come from something in between.
NOT_TAKEN = "no active channel available"


def error(answer: Answer) -> Fault:
    """What a refused exchange says."""
    code, said = words(_body(answer))
    return Fault(
        kind=_kind(answer.status, code, said),
        status=answer.status,
        code=code,
        message=reading.shown("; ".join(said)),
        retry_after=reading.retry_after(answer.headers),
    )


def words(body: Object) -> tuple[str | None, list[str]]:
    """The code, and all that is said; what is said of fields, but never their names, which may be anything."""
    nested = child(body, "error")
    code = reading.word(nested.get("code") or body.get("code"))
    of_fields = [text for texts in child(body, "errors").values() if isinstance(texts, list) for text in texts[:4]]
    told = [nested.get("message"), body.get("error"), body.get("message"), *of_fields[:8]]
    return code, [said for value in told if (said := reading.shown(value))]


def _kind(status: int, code: str | None, said: list[str]) -> FaultKind:
    kind = unless_refused(CODES.get(code or "", kind_of_status(status)), code, *said)
    not_taken = kind is FaultKind.OVERLOADED and any(text.lower().startswith(NOT_TAKEN) for text in said)
    return FaultKind.UNAVAILABLE if not_taken else kind


def _body(answer: Answer) -> Object:
    try:
        return reading.document(answer.body)
    except Unclear:
        return {}
