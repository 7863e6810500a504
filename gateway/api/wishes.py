"""What a body says, as our words: strict, since a wish that is silently dropped is a wish that is disappointed."""

import hashlib
import io
import re
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from msgspec import Meta, Struct

from gateway.api.bodies import MOST_BYTES, MOST_BYTES_WITHOUT_IMAGES
from gateway.api.errors import ApiError
from gateway.api.json_scanner import LongText
from gateway.assets.headers import NotAPicture, is_whole, read_header
from gateway.catalogue import Catalogue, Model
from gateway.config.checking import did_you_mean
from gateway.engine.accepting import Given
from gateway.engine.records import RequestedParams
from gateway.money import parse_usd
from gateway.routing.plan import Limits, Question, RoutingError
from gateway.routing.target import SizeWish, target_of
from gateway.upstream.input_fetcher import INPUT_LIMITS
from providers.orders import Format, ImageRequest, Inline, Operation, Quality

MOST_PROMPT = 32_000
MOST_INPUTS = 16
AUTO = "auto"
Text = Annotated[str, Meta(max_length=200)]
# USD as text or as a number; a number is what its shortest decimal form says.
Amount = Text | int | float
W = TypeVar("W", bound="Wishes")
# A PNG, a JPEG and a WebP begin like this in base64.
IMAGE_STARTS = ("iVBORw0KGgo", "/9j/", "UklGR")
INLINE_STARTS = ("data:", *IMAGE_STARTS)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE | re.ASCII)


class ProviderWish(Struct, frozen=True, forbid_unknown_fields=True):
    """Which sellers may be asked."""

    only: tuple[Text, ...] | None = None
    ignore: tuple[Text, ...] | None = None


class Wishes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both surfaces share: OpenAI's words, and ours at the same level."""

    most_bytes: ClassVar[int] = MOST_BYTES_WITHOUT_IMAGES

    prompt: Annotated[str, Meta(min_length=1, max_length=MOST_PROMPT)]
    model: Text | None = None
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    size: Text = AUTO
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
    user: Text | None = None
    safety_identifier: Text | None = None
    resolution: Text | None = None
    aspect_ratio: Text | None = None
    policy: Text | None = None
    max_price: Amount | None = None
    max_cost: Amount | None = None
    max_seconds: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    provider: ProviderWish = ProviderWish()
    metadata: Annotated[dict[Text, Text], Meta(max_length=16)] = {}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about parameters that have no effect on this route."""
        return ()


class Generation(Wishes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/images/generations`."""

    response_format: Literal["b64_json", "url"] | None = None


class InputWish(Struct, frozen=True, forbid_unknown_fields=True):
    """An input image: an address (https or a data URI), or its bytes."""

    image_url: str | None = None
    b64_json: str | None = None

    @property
    def inline(self) -> str | None:
        """Base64, with or without a data URI, also if sent as `image_url`: no address begins like an image."""
        if self.b64_json is not None:
            return self.b64_json
        return self.image_url if (self.image_url or "").startswith(INLINE_STARTS) else None

    @property
    def is_address(self) -> bool:
        """Whether it has to be fetched, and looks like something that could be."""
        is_short = not isinstance(self.image_url, LongText)
        return self.inline is None and is_short and bool(_ADDRESS.match(self.image_url or ""))


class JobWishes(Wishes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /v1/jobs`."""

    most_bytes: ClassVar[int] = MOST_BYTES

    operation: Operation = Operation.GENERATE
    image: str | InputWish | tuple[str | InputWish, ...] = ()
    images: tuple[str | InputWish, ...] = ()
    mask: str | InputWish | None = None
    response_format: Literal["b64_json", "url"] = "url"

    @property
    def warnings(self) -> tuple[str, ...]:
        if self.response_format == "url":
            return ()
        return (f"response_format_ignored: '{self.response_format}' has no effect: the images of a job are links",)


def model_of(catalogue: Catalogue, name: str | None) -> Model:
    """By name or alias; the first one that is configured where nothing is said."""
    if name is None:
        return next(iter(catalogue.models.values()))
    if (model := catalogue.model(name)) is None:
        known = ", ".join(sorted([*catalogue.models, *catalogue.aliases]))
        raise ApiError(404, "model_not_found", f"There is no model '{name[:60]}'. There are: {known}.", param="model")
    return model


class Pictures(Struct, frozen=True):
    """What an edit starts from."""

    inputs: tuple[Given, ...] = ()
    mask: Given | None = None


def question_of(catalogue: Catalogue, wishes: Wishes, team: str, operation: Operation, pictures: Pictures) -> Question:
    """ApiError names what cannot be."""
    inputs, mask = pictures.inputs, pictures.mask
    if operation is Operation.EDIT and not inputs:
        raise ApiError(400, "missing_required_parameter", "An edit needs an input image.", param="image")
    if operation is Operation.GENERATE and (inputs or mask):
        raise ApiError(400, "invalid_value", "Only an edit takes input images: say operation: edit.", param="image")
    model = model_of(catalogue, wishes.model)
    if wishes.n > model.most_images:
        raise ApiError(400, "invalid_value", f"At most {model.most_images} images of '{model.name}'.", param="n")
    first = (inputs[0].header.width, inputs[0].header.height) if inputs else None
    size = SizeWish(size=wishes.size, resolution=wishes.resolution, aspect_ratio=wishes.aspect_ratio, first_input=first)
    try:
        target, pixels_asked = target_of(model, operation, size)
    except RoutingError as error:
        raise refused(error) from error
    quality = model.quality if wishes.quality == AUTO else Quality(wishes.quality)
    request = ImageRequest(
        operation=operation,
        model=model.name,
        prompt=_prompt(wishes.prompt),
        n=wishes.n,
        target=target,
        quality=quality,
        output_format=wishes.output_format or model.output_format,
        pixels_asked=pixels_asked,
        quality_asked=wishes.quality != AUTO,
        sources=tuple(given.image for given in inputs),
        mask=mask.image if mask else None,
        metadata=wishes.metadata,
    )
    _require_sellers(catalogue, wishes.provider)
    return Question(request=request, team=team, policy=wishes.policy, limits=_limits(wishes))


def requested_params(fields: Mapping[str, Any]) -> RequestedParams:
    """The image parameters as the client sent them; `auto` and null say no more than a missing one."""
    sent = {name: str(fields.get(name) or AUTO) for name in RequestedParams.__struct_fields__}
    return RequestedParams(**{name: text[:200] for name, text in sent.items() if text.strip().lower() != AUTO})


def _require_sellers(catalogue: Catalogue, wish: ProviderWish) -> None:
    """A misspelled seller would otherwise be ignored in silence, or be the only one that may be asked."""
    if wish.only == ():
        raise ApiError(400, "invalid_value", "'provider.only' names no seller: leave it out.", param="provider.only")
    for param, names in (("provider.only", wish.only or ()), ("provider.ignore", wish.ignore or ())):
        for name in names:
            if name not in catalogue.sellers:
                message = f"There is no seller '{name[:60]}'{did_you_mean(name, catalogue.sellers)}"
                raise ApiError(400, "invalid_value", message.rstrip(".?") + ".", param=param)


def refused(error: RoutingError) -> ApiError:
    return ApiError(400, "invalid_value", f"{str(error)[:300]}.", param=error.param)


def _prompt(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ApiError(400, "invalid_value", "The prompt holds half a character.", param="prompt") from None
    return text


def _limits(wishes: Wishes) -> Limits:
    return Limits(
        max_price=_usd("max_price", wishes.max_price),
        max_cost=_usd("max_cost", wishes.max_cost),
        max_seconds=wishes.max_seconds,
        only=wishes.provider.only,
        ignore=wishes.provider.ignore or (),
    )


def _usd(name: str, amount: str | int | float | None) -> int | None:
    try:
        return None if amount is None else parse_usd(str(amount))
    except ValueError as error:
        raise ApiError(400, "invalid_value", f"Invalid value for '{name}': {error}.", param=name) from None


# --- input images


def given_picture(data: bytes, param: str) -> Given:
    """What the bytes themselves say; what the caller says of them is not believed."""
    if len(data) > INPUT_LIMITS.most_bytes:
        raise ApiError(
            413, "image_too_large", f"An input image may have {INPUT_LIMITS.most_bytes >> 20} MiB.", param=param
        )
    try:
        header = read_header(data)
        if not is_whole(data, header):
            raise NotAPicture("the picture is cut off")
        if header.frames > 1:
            raise NotAPicture(f"a moving {header.format} of {header.frames:,} pictures, not a still one")
    except NotAPicture as error:
        raise ApiError(400, "invalid_image", f"Invalid image in '{param}': {error}.", param=param) from None
    return Given(Inline(data, f"image/{header.format}", param), header)


def require_fitting_mask(pictures: Pictures) -> None:
    """Rejects masks that sellers refuse or misread, before anything is bought."""
    if pictures.mask is None or not pictures.inputs:
        return
    mask, first = pictures.mask.header, pictures.inputs[0].header
    if mask.format is not Format.PNG or not mask.has_alpha:
        message = (
            "The mask has no alpha channel, or is no PNG: send a PNG that is transparent where the image is to be "
            "edited. Nothing was ordered."
        )
        raise ApiError(400, "invalid_image_mode", message, param="mask")
    if (mask.width, mask.height) != (first.width, first.height):
        message = (
            f"The mask is {mask.width}x{mask.height}, the first input image {first.width}x{first.height}: send a mask "
            "of the same size. Nothing was ordered."
        )
        raise ApiError(400, "invalid_image", message, param="mask")


def inline_picture(text: str, param: str) -> Given:
    """From base64, with or without a data URI around it."""
    pieces = text.pieces() if isinstance(text, LongText) else iter((text,))
    try:
        data = decode_base64(_without_head(pieces))
    except ValueError:
        raise ApiError(400, "invalid_image", f"'{param}' is no base64.", param=param) from None
    return given_picture(data, param)


def _without_head(pieces: Iterator[str]) -> Iterator[str]:
    first = next(pieces, "")
    yield first.partition(",")[2] if first.startswith("data:") else first
    yield from pieces


def decode_base64(pieces: Iterable[str]) -> bytes:
    """Decodes pieces in groups of four letters. ValueError unless together they are base64."""
    decoded, rest, is_over = io.BytesIO(), "", False
    for piece in pieces:
        text = rest + piece
        whole = len(text) - len(text) % 4
        rest = text[whole:]
        if is_over and text:
            raise ValueError("something follows the end")
        decoded.write(a2b_base64(text[:whole], strict_mode=True) if whole else b"")
        is_over = text.endswith("=", 0, whole)
    if rest:
        raise ValueError("cut off")
    return decoded.getvalue()


def input_wishes(wishes: JobWishes) -> list[tuple[str, InputWish]]:
    """Every input image by the parameter that it stands in, the mask last."""
    one_or_more = wishes.image if isinstance(wishes.image, tuple) else (wishes.image,)
    found = [("image", one) for one in one_or_more] + [("images", one) for one in wishes.images]
    if len(found) > MOST_INPUTS:
        raise ApiError(400, "invalid_value", f"At most {MOST_INPUTS} input images.", param="image")
    named = [(name, InputWish(image_url=one) if isinstance(one, str) else one) for name, one in found]
    for name, one in named:
        if (one.image_url is None) == (one.b64_json is None):
            message = f"'{name}' must have either image_url or b64_json."
            raise ApiError(400, "invalid_value", message, param=name)
    return named


def fingerprint(route: str, body: bytes) -> str:
    # In two steps, since concatenation would copy a large body.
    digest = hashlib.sha256(route.encode() + b"\n")
    digest.update(body)
    return digest.hexdigest()
