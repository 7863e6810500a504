"""The request bodies' structs. Unknown parameters are rejected, so that none is silently ignored."""

import re
from typing import Annotated, ClassVar, Literal, TypeVar

from msgspec import Meta, Struct

from gateway.api.json_prescan import LongText
from gateway.api.request_body import MAX_BODY_BYTES, MAX_BODY_BYTES_WITHOUT_IMAGES
from providers.orders import Format, Operation

MAX_PROMPT_LENGTH = 32_000
AUTO = "auto"
ShortText = Annotated[str, Meta(max_length=200)]
# USD as text or as a number. A float is read as its shortest decimal form.
UsdAmount = ShortText | int | float
ParamsT = TypeVar("ParamsT", bound="ImageParams")
# How a PNG, a JPEG and a WebP start in base64.
BASE64_IMAGE_PREFIXES = ("iVBORw0KGgo", "/9j/", "UklGR")
INLINE_IMAGE_PREFIXES = ("data:", *BASE64_IMAGE_PREFIXES)
_URL_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE | re.ASCII)


class SellerFilter(Struct, frozen=True, forbid_unknown_fields=True):
    """The sellers that may be used."""

    only: tuple[ShortText, ...] | None = None
    ignore: tuple[ShortText, ...] | None = None


class ImageParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of both routes: those of OpenAI, and those that only this gateway has."""

    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES_WITHOUT_IMAGES

    prompt: Annotated[str, Meta(min_length=1, max_length=MAX_PROMPT_LENGTH)]
    model: ShortText | None = None
    n: Annotated[int, Meta(ge=1, le=10)] = 1
    size: ShortText = AUTO
    quality: Literal["auto", "low", "medium", "high"] = "auto"
    output_format: Format | None = None
    background: Literal["auto", "opaque"] = "auto"
    moderation: Literal["auto", "low"] = "auto"
    # Parameters that the models do not have. Accepted values either have no effect or add a warning.
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
    """An input image: a URL (https or data URI) or base64."""

    image_url: str | None = None
    b64_json: str | None = None

    @property
    def inline_base64(self) -> str | None:
        """The base64 text or data URI, even if the client sent it as `image_url`: no URL begins like the base64 of an
        image."""
        if self.b64_json is not None:
            return self.b64_json
        return self.image_url if (self.image_url or "").startswith(INLINE_IMAGE_PREFIXES) else None

    @property
    def is_url(self) -> bool:
        """Whether the image must be downloaded: it is given in the form of a URL."""
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
        return (f"response_format_ignored: '{self.response_format}' has no effect: a job's images are URLs",)
