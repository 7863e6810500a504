"""Any OpenAI-compatible Images API: OpenAI itself, or another gateway. The answer to an order holds its pictures.

https://platform.openai.com/docs/api-reference/images. What is assumed beyond that: docs/quirks/openai.md.
"""

from datetime import date

from providers import reading
from providers.faults import Fault, FaultKind, kind_of_status, unless_refused
from providers.orders import Addressing, Feature, Inline, Operation, Order, Pixels, Source, Speaks, require_words
from providers.progress import Progress, TokenUsage
from providers.reading import Object, Unclear, child, ordering
from providers.spec import Adapter, Answer, Call, FormPart, Multipart, Step
from providers.writing import bearer, json_call

# The seller's own codes, where they say more than the HTTP status that comes with them.
CODES = {
    "moderation_blocked": FaultKind.CONTENT_REFUSED,
    "content_policy_violation": FaultKind.CONTENT_REFUSED,
    "image_content_policy_violation": FaultKind.CONTENT_REFUSED,
    "insufficient_quota": FaultKind.NO_CREDIT,
    "billing_hard_limit_reached": FaultKind.NO_CREDIT,
    "rate_limit_exceeded": FaultKind.RATE_LIMITED,
    "model_not_found": FaultKind.NOT_FOUND,
    "upstream_unavailable": FaultKind.UNAVAILABLE,
}

_BOTH = frozenset({Feature.SEVERAL_IMAGES, Feature.PIXELS, Feature.AUTO_SIZE, Feature.QUALITY, Feature.OUTPUT_FORMAT})
SPEAKS = Speaks(
    generate=_BOTH,
    edit=_BOTH | {Feature.INLINE_SOURCES, Feature.MASK},
    most_images=10,
    most_sources=16,
)


def to_order(order: Order) -> Call:
    """JSON for new pictures, a form for edits. No `response_format`: models of this family refuse it."""
    require_words(order, SPEAKS)
    fields = {
        "model": order.model,
        "prompt": order.prompt,
        "n": order.images,
        "size": _to_size(order.size),
        "quality": order.quality,
        "output_format": order.output_format,
    }
    if order.operation is Operation.GENERATE:
        return json_call("POST", "/images/generations", fields)
    parts = [FormPart(name, str(value).encode()) for name, value in fields.items() if value is not None]
    return Call(method="POST", location="/images/edits", body=(*parts, *_to_files(order)))


def _to_size(size: Addressing) -> str:
    return f"{size.width}x{size.height}" if isinstance(size, Pixels) else "auto"


def _to_files(order: Order) -> list[FormPart]:
    """Text comes first and the images in order, as the vendor's own client sends them."""
    field = "image" if len(order.sources) == 1 else "image[]"
    files = [_to_file(field, source) for source in order.sources if isinstance(source, Inline)]
    return [*files, _to_file("mask", order.mask)] if isinstance(order.mask, Inline) else files


def _to_file(field: str, image: Inline) -> FormPart:
    return FormPart(field, image.data, image.name, image.media_type)


def from_order(answer: Answer) -> Progress:
    body = reading.document(answer.body)
    if not isinstance(body.get("data"), list):
        raise Unclear(FaultKind.UNREADABLE, message="no list of images in the answer")
    found = [_picture(entry) for entry in body["data"]]
    return reading.delivered(found, (child(body, "usage").get("cost"),), usage=_usage(child(body, "usage")))


def _picture(entry: object) -> Source | None:
    """Bytes, whose type the bytes themselves tell, or an address."""
    if not isinstance(entry, dict):
        return None
    data = reading.base64_bytes(entry.get("b64_json"))
    return Inline(data, "", "") if data else reading.picture(entry.get("url"))


def _usage(usage: Object) -> TokenUsage | None:
    """Tokens to bill by; None unless all are there, since a part of them would bill too little."""
    details = child(usage, "input_tokens_details")
    input_text, input_image = reading.count(details.get("text_tokens")), reading.count(details.get("image_tokens"))
    output = reading.count(usage.get("output_tokens"))
    if input_text is None or input_image is None or output is None:
        return None
    return TokenUsage(input_text=input_text, input_image=input_image, output=output)


def error(answer: Answer) -> Fault:
    try:
        envelope = child(reading.document(answer.body), "error")
    except Unclear:
        envelope = {}
    code, message = reading.word(envelope.get("code")), reading.shown(envelope.get("message"))
    return Fault(
        kind=unless_refused(CODES.get(code or "", kind_of_status(answer.status)), message),
        status=answer.status,
        code=code,
        message=message,
        retry_after=reading.retry_after(answer.headers),
    )


ADAPTER = Adapter(
    name="openai",
    docs="https://platform.openai.com/docs/api-reference/images",
    checked=date(2026, 11, 21),
    speaks=SPEAKS,
    authorize=bearer,
    error=error,
    submit=Step(ask=to_order, read=ordering(from_order, error)),
    inputs=(Multipart(),),
    holds_connection=True,
)
