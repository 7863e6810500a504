"""What a body says, as our words: strict, since a wish that is silently dropped is a wish that is disappointed."""

import hashlib
import io
import re
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from msgspec import Meta, Struct

from gateway.api.api_errors import ApiError
from gateway.api.json_scanner import LongText
from gateway.api.request_body import MAX_BODY_BYTES, MAX_BODY_BYTES_WITHOUT_IMAGES
from gateway.assets.image_header import InvalidImage, is_complete, read_header
from gateway.catalogue import Catalogue, Model
from gateway.engine.documents import RequestedParams
from gateway.engine.job_creation import InputImage
from gateway.money import parse_usd
from gateway.routing.plan import RoutingError, RoutingLimits, RoutingQuery
from gateway.routing.target_size import SizeRequest, resolve_target
from gateway.suggestions import did_you_mean
from gateway.upstream.input_fetcher import INPUT_LIMITS
from providers.orders import Format, ImageBytes, ImageRequest, Operation, Quality

MAX_PROMPT_LENGTH = 32_000
MAX_INPUT_IMAGES = 16
AUTO = "auto"
ShortText = Annotated[str, Meta(max_length=200)]
# USD as text or as a number; a number is what its shortest decimal form says.
UsdAmount = ShortText | int | float
ParamsT = TypeVar("ParamsT", bound="ImageParams")
# A PNG, a JPEG and a WebP begin like this in base64.
BASE64_IMAGE_PREFIXES = ("iVBORw0KGgo", "/9j/", "UklGR")
INLINE_IMAGE_PREFIXES = ("data:", *BASE64_IMAGE_PREFIXES)
_URL_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE | re.ASCII)


class SellerFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """Which sellers may be asked."""

    only: tuple[ShortText, ...] | None = None
    ignore: tuple[ShortText, ...] | None = None


class ImageParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both surfaces share: OpenAI's words, and ours at the same level."""

    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES_WITHOUT_IMAGES

    prompt: Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT_LENGTH)]
    model: ShortText | None = None
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    size: ShortText = AUTO
    quality: Literal["auto", "low", "medium", "high"] = "auto"
    output_format: Format | None = None
    background: Literal["auto", "opaque"] = "auto"
    moderation: Literal["auto", "low"] = "auto"
    # Parameters that the model lacks: accepted are values without effect, and those that have a warning.
    output_compression: Literal[100] = 100
    partial_images: Annotated[int, Meta(ge=0, le=0)] = 0
    stream: Literal[False] = False
    style: Literal["vivid", "natural"] | None = None
    input_fidelity: Literal["low", "high"] | None = None
    user: ShortText | None = None
    safety_identifier: ShortText | None = None
    resolution: ShortText | None = None
    aspect_ratio: ShortText | None = None
    policy: ShortText | None = None
    max_price: UsdAmount | None = None
    max_cost: UsdAmount | None = None
    max_seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    provider: SellerFilter = SellerFilter()
    metadata: Annotated[dict[ShortText, ShortText], Meta(max_length=16)] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about parameters that have no effect on this route."""
        return ()


class GenerationRequest(ImageParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/images/generations`."""

    response_format: Literal["b64_json", "url"] | None = None


class InputImageRef(Struct, frozen=True, forbid_unknown_fields=True):
    """An input image: an address (https or a data URI), or its bytes."""

    image_url: str | None = None
    b64_json: str | None = None

    @property
    def inline_base64(self) -> str | None:
        """Base64, with or without a data URI, also if sent as `image_url`: no address begins like an image."""
        if self.b64_json is not None:
            return self.b64_json
        return self.image_url if (self.image_url or "").startswith(INLINE_IMAGE_PREFIXES) else None

    @property
    def is_url(self) -> bool:
        """Whether it has to be fetched, and looks like something that could be."""
        is_short = not isinstance(self.image_url, LongText)
        return self.inline_base64 is None and is_short and bool(_URL_SCHEME.match(self.image_url or ""))


class CreateJobRequest(ImageParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/jobs`."""

    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES

    operation: Operation = Operation.GENERATE
    image: str | InputImageRef | tuple[str | InputImageRef, ...] = ()
    images: tuple[str | InputImageRef, ...] = ()
    mask: str | InputImageRef | None = None
    response_format: Literal["b64_json", "url"] = "url"

    @property
    def warnings(self) -> tuple[str, ...]:
        if self.response_format == "url":
            return ()
        return (f"response_format_ignored: '{self.response_format}' has no effect: the images of a job are links",)


def resolve_model(catalogue: Catalogue, name: str | None) -> Model:
    """By name or alias; the first one that is configured where nothing is said."""
    if name is None:
        return next(iter(catalogue.models.values()))
    if (model := catalogue.find_model(name)) is None:
        known_names = ", ".join(sorted([*catalogue.models, *catalogue.aliases]))
        raise ApiError(
            404, "model_not_found", f"There is no model '{name[:60]}'. There are: {known_names}.", param="model"
        )
    return model


class InputImages(Struct, frozen=True):
    """What an edit starts from."""

    inputs: tuple[InputImage, ...] = ()
    mask: InputImage | None = None


def to_routing_query(
    catalogue: Catalogue, params: ImageParams, team: str, operation: Operation, input_images: InputImages
) -> RoutingQuery:
    """ApiError names what cannot be."""
    inputs, mask = input_images.inputs, input_images.mask
    if operation is Operation.EDIT and not inputs:
        raise ApiError(400, "missing_required_parameter", "An edit needs an input image.", param="image")
    if operation is Operation.GENERATE and (inputs or mask):
        raise ApiError(400, "invalid_value", "Only an edit takes input images: say operation: edit.", param="image")
    model = resolve_model(catalogue, params.model)
    if params.n > model.max_images:
        raise ApiError(400, "invalid_value", f"At most {model.max_images} images of '{model.name}'.", param="n")
    first_size = (inputs[0].header.width, inputs[0].header.height) if inputs else None
    size = SizeRequest(
        size=params.size, resolution=params.resolution, aspect_ratio=params.aspect_ratio, first_input_size=first_size
    )
    try:
        target, pixels_asked = resolve_target(model, operation, size)
    except RoutingError as error:
        raise to_invalid_value_error(error) from error
    quality = model.quality if params.quality == AUTO else Quality(params.quality)
    request = ImageRequest(
        operation=operation,
        model=model.name,
        prompt=_validate_prompt(params.prompt),
        n=params.n,
        target=target,
        quality=quality,
        output_format=params.output_format or model.output_format,
        has_explicit_size=pixels_asked,
        has_explicit_quality=params.quality != AUTO,
        input_images=tuple(input_image.content for input_image in inputs),
        mask=mask.content if mask else None,
        metadata=params.metadata,
    )
    _require_known_sellers(catalogue, params.provider)
    return RoutingQuery(request=request, team=team, policy=params.policy, limits=_to_routing_limits(params))


def collect_requested_params(fields: Mapping[str, Any]) -> RequestedParams:
    """The image parameters as the client sent them; `auto` and null say no more than a missing one."""
    sent = {name: str(fields.get(name) or AUTO) for name in RequestedParams.__struct_fields__}
    return RequestedParams(**{name: text[:200] for name, text in sent.items() if text.strip().lower() != AUTO})


def _require_known_sellers(catalogue: Catalogue, seller_filter: SellerFilter) -> None:
    """A misspelled seller would otherwise be ignored in silence, or be the only one that may be asked."""
    if seller_filter.only == ():
        raise ApiError(400, "invalid_value", "'provider.only' names no seller: leave it out.", param="provider.only")
    for param, names in (("provider.only", seller_filter.only or ()), ("provider.ignore", seller_filter.ignore or ())):
        for name in names:
            if name not in catalogue.sellers:
                message = f"There is no seller '{name[:60]}'{did_you_mean(name, catalogue.sellers)}"
                raise ApiError(400, "invalid_value", message.rstrip(".?") + ".", param=param)


def to_invalid_value_error(error: RoutingError) -> ApiError:
    return ApiError(400, "invalid_value", f"{str(error)[:300]}.", param=error.param)


def _validate_prompt(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ApiError(400, "invalid_value", "The prompt holds half a character.", param="prompt") from None
    return text


def _to_routing_limits(params: ImageParams) -> RoutingLimits:
    return RoutingLimits(
        max_price=_parse_usd_param("max_price", params.max_price),
        max_cost=_parse_usd_param("max_cost", params.max_cost),
        max_seconds=params.max_seconds,
        only=params.provider.only,
        ignore=params.provider.ignore or (),
    )


def _parse_usd_param(name: str, amount: str | int | float | None) -> int | None:
    try:
        return None if amount is None else parse_usd(str(amount))
    except ValueError as error:
        raise ApiError(400, "invalid_value", f"Invalid value for '{name}': {error}.", param=name) from None


# --- input images


def parse_input_image(data: bytes, param: str) -> InputImage:
    """What the bytes themselves say; what the caller says of them is not believed."""
    if len(data) > INPUT_LIMITS.max_bytes:
        raise ApiError(
            413, "image_too_large", f"An input image may have {INPUT_LIMITS.max_bytes >> 20} MiB.", param=param
        )
    try:
        header = read_header(data)
        if not is_complete(data, header):
            raise InvalidImage("the picture is cut off")
        if header.frames > 1:
            raise InvalidImage(f"a moving {header.format} of {header.frames:,} pictures, not a still one")
    except InvalidImage as error:
        raise ApiError(400, "invalid_image", f"Invalid image in '{param}': {error}.", param=param) from None
    return InputImage(ImageBytes(data, f"image/{header.format}", param), header)


def validate_mask(input_images: InputImages) -> None:
    """Rejects masks that sellers refuse or misread, before anything is bought."""
    if input_images.mask is None or not input_images.inputs:
        return
    mask_header, first_header = input_images.mask.header, input_images.inputs[0].header
    if mask_header.format is not Format.PNG or not mask_header.has_alpha:
        message = (
            "The mask has no alpha channel, or is no PNG: send a PNG that is transparent where the image is to be "
            "edited. Nothing was ordered."
        )
        raise ApiError(400, "invalid_image_mode", message, param="mask")
    if (mask_header.width, mask_header.height) != (first_header.width, first_header.height):
        message = (
            f"The mask is {mask_header.width}x{mask_header.height}, the first input image {first_header.width}x{first_header.height}: send a mask "
            "of the same size. Nothing was ordered."
        )
        raise ApiError(400, "invalid_image", message, param="mask")


def decode_inline_image(text: str, param: str) -> InputImage:
    """From base64, with or without a data URI around it."""
    pieces = text.iterate_pieces() if isinstance(text, LongText) else iter((text,))
    try:
        data = decode_base64(_strip_data_uri_prefix(pieces))
    except ValueError:
        raise ApiError(400, "invalid_image", f"'{param}' is no base64.", param=param) from None
    return parse_input_image(data, param)


def _strip_data_uri_prefix(pieces: Iterator[str]) -> Iterator[str]:
    first_piece = next(pieces, "")
    yield first_piece.partition(",")[2] if first_piece.startswith("data:") else first_piece
    yield from pieces


def decode_base64(pieces: Iterable[str]) -> bytes:
    """Decodes pieces in groups of four letters. ValueError unless together they are base64."""
    decoded, remainder, is_over = io.BytesIO(), "", False
    for piece in pieces:
        text = remainder + piece
        decodable_length = len(text) - len(text) % 4
        remainder = text[decodable_length:]
        if is_over and text:
            raise ValueError("something follows the end")
        decoded.write(a2b_base64(text[:decodable_length], strict_mode=True) if decodable_length else b"")
        is_over = text.endswith("=", 0, decodable_length)
    if remainder:
        raise ValueError("cut off")
    return decoded.getvalue()


def list_input_refs(params: CreateJobRequest) -> list[tuple[str, InputImageRef]]:
    """Every input image by the parameter that it stands in, the mask last."""
    images = params.image if isinstance(params.image, tuple) else (params.image,)
    values = [("image", ref) for ref in images] + [("images", ref) for ref in params.images]
    if len(values) > MAX_INPUT_IMAGES:
        raise ApiError(400, "invalid_value", f"At most {MAX_INPUT_IMAGES} input images.", param="image")
    refs = [(name, InputImageRef(image_url=ref) if isinstance(ref, str) else ref) for name, ref in values]
    for name, ref in refs:
        if (ref.image_url is None) == (ref.b64_json is None):
            message = f"'{name}' must have either image_url or b64_json."
            raise ApiError(400, "invalid_value", message, param=name)
    return refs


def compute_fingerprint(path: str, body: bytes) -> str:
    # In two steps, since concatenation would copy a large body.
    digest = hashlib.sha256(path.encode() + b"\n")
    digest.update(body)
    return digest.hexdigest()
