"""Adapter for OpenAI-compatible Images APIs: OpenAI itself, or another gateway. The answer contains the images.

https://platform.openai.com/docs/api-reference/images. Assumptions beyond that: docs/quirks/openai.md.
"""

from datetime import date

from providers import parsing
from providers.account_status import AccountStatus
from providers.adapter import Adapter, Answer, Call, Endpoint, FormPart, Multipart
from providers.call_builders import build_json_call
from providers.faults import Fault, FaultKind, detect_content_refusal, fault_kind_from_status
from providers.order_status import Progress, TokenUsage
from providers.orders import (
    Capabilities,
    Feature,
    ImageBytes,
    ImageSource,
    Operation,
    Order,
    PixelSize,
    SizeSpec,
    UnsupportedOrder,
    check_supported,
)
from providers.parsing import JsonObject, ParseError, get_object, make_query_reader, make_submit_reader

# The seller's error codes that are more precise than the HTTP status.
FAULTS_BY_CODE = {
    "moderation_blocked": FaultKind.CONTENT_REFUSED,
    "content_policy_violation": FaultKind.CONTENT_REFUSED,
    "image_content_policy_violation": FaultKind.CONTENT_REFUSED,
    "insufficient_quota": FaultKind.NO_CREDIT,
    "billing_hard_limit_reached": FaultKind.NO_CREDIT,
    "rate_limit_exceeded": FaultKind.RATE_LIMITED,
    "model_not_found": FaultKind.NOT_FOUND,
    "upstream_unavailable": FaultKind.UNAVAILABLE,
}

_COMMON_FEATURES = frozenset(
    {
        Feature.MULTIPLE_IMAGES,
        Feature.PIXEL_SIZE,
        Feature.QUALITY,
        Feature.OUTPUT_FORMAT,
        Feature.BACKGROUND,
    }
)
CAPABILITIES = Capabilities(
    generate_features=_COMMON_FEATURES,
    edit_features=_COMMON_FEATURES | {Feature.INPUT_BYTES, Feature.MASK},
    max_images=10,
    max_input_images=16,
)


def to_order(order: Order) -> Call:
    """Builds the call: JSON for generations, a multipart form for edits.

    `response_format` is omitted: models of this family reject it.
    """
    check_supported(order, CAPABILITIES)
    fields = {
        "model": order.model,
        "prompt": order.prompt,
        "n": order.image_count,
        "size": _to_size(order.size),
        "quality": order.quality,
        "output_format": order.output_format,
        "background": order.background,
    }
    if order.operation is Operation.GENERATE:
        return build_json_call("POST", "/images/generations", fields)
    parts = [FormPart(name, str(value).encode()) for name, value in fields.items() if value is not None]
    return Call(method="POST", location="/images/edits", body=(*parts, *_to_files(order)))


def _to_size(size: SizeSpec) -> str:
    if not isinstance(size, PixelSize):
        raise UnsupportedOrder(f"the adapter does not support sizes of type {type(size).__name__}")
    return f"{size.width}x{size.height}"


def _to_files(order: Order) -> list[FormPart]:
    """Builds the file parts, in the order of the seller's own client: images, then the mask."""
    field = "image" if len(order.input_images) == 1 else "image[]"
    files = [_to_file(field, image) for image in order.input_images if isinstance(image, ImageBytes)]
    return [*files, _to_file("mask", order.mask)] if isinstance(order.mask, ImageBytes) else files


def _to_file(field: str, image: ImageBytes) -> FormPart:
    return FormPart(field, image.data, image.name, image.media_type)


def from_order(answer: Answer) -> Progress:
    body = parsing.parse_json_object(answer.body)
    if not isinstance(body.get("data"), list):
        raise ParseError(FaultKind.UNREADABLE, message="the answer has no list of images")
    images, usage = [_parse_image(entry) for entry in body["data"]], get_object(body, "usage")
    return parsing.status_from_images(images, (usage.get("cost"),), usage=_parse_usage(usage) if usage else None)


def _parse_image(entry: object) -> ImageSource | None:
    """Parses one entry: base64 bytes (their type is detected later) or a URL."""
    if not isinstance(entry, dict):
        return None
    data = parsing.decode_base64(entry.get("b64_json"))
    return ImageBytes(data, "", "") if data else parsing.parse_image(entry.get("url"))


def _parse_usage(usage: JsonObject) -> TokenUsage | None:
    """Returns the token counts, or None unless all are present: a partial count would bill too little."""
    details = get_object(usage, "input_tokens_details")
    input_text, input_image = (
        parsing.parse_count(details.get("text_tokens")),
        parsing.parse_count(details.get("image_tokens")),
    )
    output = parsing.parse_count(usage.get("output_tokens"))
    if input_text is None or input_image is None or output is None:
        return None
    return TokenUsage(input_text=input_text, input_image=input_image, output=output)


def to_check(_: None) -> Call:
    """Builds the call that lists models: it is free, and requires the API key. There is no route for the balance."""
    return Call(method="GET", location="/models")


def from_check(answer: Answer) -> AccountStatus:
    if not isinstance(parsing.parse_json_object(answer.body).get("data"), list):
        raise ParseError(FaultKind.UNREADABLE, message="the answer has no list of models")
    return AccountStatus()


def parse_error(answer: Answer) -> Fault:
    """Parses `{error: {code, message}}`, and the errors of other servers, which have no such envelope."""
    body = parsing.parse_error_body(answer)
    code = parsing.parse_code(get_object(body, "error").get("code") or body.get("code"))
    messages = parsing.list_error_messages(body)
    return Fault(
        kind=detect_content_refusal(FAULTS_BY_CODE.get(code or "", fault_kind_from_status(answer.status)), *messages),
        status=answer.status,
        code=code,
        message=parsing.join_messages(messages, answer),
        retry_after=parsing.parse_retry_after(answer.headers),
    )


ADAPTER = Adapter(
    name="openai",
    docs_url="https://platform.openai.com/docs/api-reference/images",
    checked_on=date(2026, 11, 21),
    capabilities=CAPABILITIES,
    parse_error=parse_error,
    submit=Endpoint(build_call=to_order, read_answer=make_submit_reader(from_order, parse_error)),
    check=Endpoint(build_call=to_check, read_answer=make_query_reader(from_check, parse_error)),
    input_transports=(Multipart(),),
    is_synchronous=True,
)
