"""The parameter table: every parameter of OpenAI's image routes and of this gateway stands here once.

A row is a field of a struct: its type and bounds, what becomes of it, its description and an example. The parser, the
JSON Schema of the bodies (`parameter_schema.py`) and docs/parameters.md are made from the rows. A parameter without a
row is rejected, so that none is silently ignored; null equals absent for every one.
"""

import re
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from msgspec import Meta, Struct

from gateway.api.json_limit_scan import LongText
from gateway.api.legacy_parameter_values import map_alias, map_quality, map_size, warn_about
from gateway.api.parameter_definition import (
    APPLIED,
    MAPPED,
    REFUSED,
    WARNED,
    Parameter,
    TranslatedFields,
    make_refused_file_row,
)
from gateway.api.parameter_value_coercion import (
    read_boolean,
    read_format,
    read_integer,
    read_size,
    read_word,
)
from gateway.api.request_body_reader import MAX_BODY_BYTES, MAX_BODY_BYTES_WITHOUT_IMAGES
from gateway.api.shared_job_parameters import JobOptions, ShortText
from gateway.catalogue import Catalogue
from providers.orders import Operation

MAX_PROMPT_LENGTH = 32_000
AUTO = "auto"
ParamsT = TypeVar("ParamsT", bound="ImageParams")
# How a PNG, a JPEG and a WebP start in base64.
BASE64_IMAGE_PREFIXES = ("iVBORw0KGgo", "/9j/", "UklGR")
# The name of the scheme may be in capitals (RFC 3986, 3.1), and blanks may precede a pasted text.
_INLINE_IMAGE = re.compile(r"\s*(?:[dD][aA][tT][aA]:|" + "|".join(BASE64_IMAGE_PREFIXES) + ")")
_URL_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE | re.ASCII)
_SEND_EDIT = "only edits accept input images. Send them to /v1/images/edits, or to /v1/jobs with operation 'edit'"
_ONLY_IN_GIFS = "no configured model makes animations. Omit it"


class InputImageRef(Struct, frozen=True, forbid_unknown_fields=True):
    """An input image: a URL (https or data URI) or base64."""

    image_url: str | None = None
    b64_json: str | None = None
    file_id: Annotated[
        None,
        make_refused_file_row(
            "this gateway stores only files of purpose batch. Send image_url or b64_json, or the image as a file of "
            "a form"
        ),
    ] = None

    @property
    def inline_base64(self) -> str | None:
        """The base64 text or data URI, even if the client sent it as `image_url`: no URL begins like the base64 of an
        image."""
        if self.b64_json is not None:
            return self.b64_json
        return self.image_url if _INLINE_IMAGE.match(self.image_url or "") else None

    @property
    def is_url(self) -> bool:
        """Whether the image must be downloaded: it is given in the form of a URL."""
        is_short = not isinstance(self.image_url, LongText)
        return self.inline_base64 is None and is_short and bool(_URL_SCHEME.match(self.image_url or ""))


InputImageValue = str | InputImageRef


class ImageParams(JobOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of every route that makes images."""

    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES_WITHOUT_IMAGES
    accepts_forms: ClassVar[bool] = False

    @classmethod
    def translate_fields(cls, fields: dict[str, Any], _: Catalogue) -> TranslatedFields:
        """Translates the fields of the body to those of this struct. Most bodies have these fields themselves."""
        return TranslatedFields(fields)

    prompt: Annotated[
        str,
        Meta(min_length=1, max_length=MAX_PROMPT_LENGTH, pattern=r"\S"),
        Parameter(APPLIED, "Text that describes the image, or the change of an edit.", "a lighthouse at dawn"),
    ]
    model: Annotated[
        ShortText | None,
        Parameter(MAPPED, "A configured model, or an alias. Default: the first.", "gpt-image-2", replace=map_alias),
    ] = None
    n: Annotated[
        int,
        Meta(ge=1, le=10),
        Parameter(APPLIED, "Number of images. A model may allow fewer.", 2, fix_spelling=read_integer),
    ] = 1
    size: Annotated[
        ShortText,
        Parameter(
            MAPPED,
            "Width and height in pixels. `auto`: the model's default; for edits the nearest ratio to the first image.",
            "1536x1024",
            note="OpenAI's sizes that the model does not have, like `256x256`, become the nearest one; other "
            "sizes outside the model's rules are refused.",
            fix_spelling=read_size,
            replace=map_size,
        ),
    ] = AUTO
    resolution: Annotated[
        ShortText | None,
        Parameter(APPLIED, "A resolution tier of the model, instead of `size`.", "2k", fix_spelling=read_word),
    ] = None
    aspect_ratio: Annotated[
        ShortText | None,
        Parameter(APPLIED, "Width to height, instead of `size`.", "16:9", fix_spelling=read_word),
    ] = None
    quality: Annotated[
        ShortText,
        Parameter(
            MAPPED,
            "A quality of the model. `auto`: the model's default.",
            "high",
            note="DALL-E's `standard` becomes `medium` or the default, `hd` becomes `high` or the best quality, unless "
            "the model has such a quality.",
            fix_spelling=read_word,
            replace=map_quality,
        ),
    ] = AUTO
    output_format: Annotated[
        ShortText | None,
        Parameter(
            APPLIED,
            "A file format of the model. Default: the model's. The gateway converts what sellers cannot deliver.",
            "webp",
            fix_spelling=read_format,
        ),
    ] = None
    output_compression: Annotated[
        int,
        Meta(ge=0, le=100),
        Parameter(
            APPLIED,
            "Quality of a JPEG or WebP. Below 100 the gateway encodes the image again.",
            80,
            fix_spelling=read_integer,
        ),
    ] = 100
    background: Annotated[
        ShortText,
        Parameter(APPLIED, "A background of the model. `auto`: the model's default.", "opaque", fix_spelling=read_word),
    ] = AUTO
    moderation: Annotated[
        Literal["auto", "low"],
        Parameter(
            WARNED,
            "How strictly content is moderated.",
            "auto",
            note="`low` has no effect: the sellers' own moderation applies.",
            fix_spelling=read_word,
            replace=warn_about("moderation", ("low",), "the sellers' own moderation applies"),
        ),
    ] = "auto"
    style: Annotated[
        Literal["vivid", "natural"] | None,
        Parameter(
            WARNED,
            "DALL-E's styles.",
            "vivid",
            note="No model has styles: describe the style in the prompt.",
            fix_spelling=read_word,
            replace=warn_about(
                "style", ("vivid", "natural"), "the model has no styles; describe the style in the prompt"
            ),
        ),
    ] = None
    input_fidelity: Annotated[
        Literal["low", "high"] | None,
        Parameter(
            WARNED,
            "How closely an edit follows its input images.",
            "high",
            note="The model itself decides.",
            fix_spelling=read_word,
            replace=warn_about(
                "input_fidelity",
                ("low", "high"),
                "the model itself decides how closely it follows the input images",
            ),
        ),
    ] = None
    seed: Annotated[
        Literal[0] | None,
        Parameter(
            REFUSED,
            "Random seed.",
            0,
            note="0 is accepted with a warning that it has no effect.",
            refusal="no seller can repeat an image. Omit it",
            fix_spelling=read_integer,
            replace=warn_about("seed", (0,), "no seller can repeat an image"),
        ),
    ] = None
    partial_images: Annotated[
        int,
        Meta(ge=0, le=3),
        Parameter(
            WARNED,
            "Number of previews while an image is made.",
            0,
            note="More than 0 has no effect: no seller sends previews.",
            fix_spelling=read_integer,
            replace=warn_about("partial_images", (1, 2, 3), "no seller sends previews"),
        ),
    ] = 0
    markup: Annotated[
        None,
        Parameter(
            REFUSED,
            "Marks drawn over an input image.",
            "marks.png",
            refusal="no model has it. Send a mask, or draw on the image",
        ),
    ] = None
    complexity: Annotated[
        None,
        Parameter(
            REFUSED, "How much the model plans.", "high", refusal="no model has it. Omit it, or choose a quality"
        ),
    ] = None
    frame_count: Annotated[None, Parameter(REFUSED, "Frames of a GIF.", 9, refusal=_ONLY_IN_GIFS)] = None
    frame_duration_ms: Annotated[
        None, Parameter(REFUSED, "Time between frames of a GIF.", 200, refusal=_ONLY_IN_GIFS)
    ] = None
    svg: Annotated[
        None,
        Parameter(
            REFUSED,
            "Options of an SVG.",
            {"model": "gpt-5"},
            refusal="no model has it. Omit it, and use png, jpeg or webp",
        ),
    ] = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings about parameters that have no effect on this route."""
        return ()


OpenaiResponseFormat = Annotated[
    Literal["b64_json", "url"] | None,
    Parameter(
        APPLIED,
        "`b64_json` (default) or `url`. Clients of DALL-E models get both by default.",
        "url",
        fix_spelling=read_word,
    ),
]


class GenerationRequest(ImageParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/images/generations`."""

    response_format: OpenaiResponseFormat = None
    image: Annotated[None, Parameter(REFUSED, "An input image.", "cat.png", refusal=_SEND_EDIT)] = None
    images: Annotated[None, Parameter(REFUSED, "Input images.", ["cat.png"], refusal=_SEND_EDIT)] = None
    mask: Annotated[None, Parameter(REFUSED, "The area of an edit.", "mask.png", refusal=_SEND_EDIT)] = None


class InputImageParams(ImageParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of routes that accept input images."""

    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES
    accepts_forms: ClassVar[bool] = True

    image: Annotated[
        InputImageValue | tuple[InputImageValue, ...],
        Parameter(
            APPLIED,
            "Input images of an edit: files of a form, https URLs, data URIs or base64.",
            "https://example.com/cat.png",
        ),
    ] = ()
    images: Annotated[
        InputImageValue | tuple[InputImageValue, ...],
        Parameter(
            APPLIED, "More input images, in the form of OpenAI's JSON.", [{"image_url": "https://example.com/cat.png"}]
        ),
    ] = ()
    mask: Annotated[
        InputImageValue | None,
        Parameter(
            APPLIED,
            "A PNG of the first image's size, transparent where the edit may change it.",
            "https://example.com/mask.png",
        ),
    ] = None

    @property
    def named_inputs(self) -> tuple[tuple[str, InputImageValue | tuple[InputImageValue, ...]], ...]:
        """The input images by the name of the parameter that has them."""
        return ("image", self.image), ("images", self.images)


class EditRequest(InputImageParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/images/edits`."""

    response_format: OpenaiResponseFormat = None

    @property
    def operation(self) -> Operation:
        return Operation.EDIT


class CreateJobRequest(InputImageParams, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs`."""

    operation: Annotated[
        Operation,
        Parameter(APPLIED, "Whether to generate images, or to edit input images.", "edit", fix_spelling=read_word),
    ] = Operation.GENERATE
    stream: Annotated[
        Literal[False],
        Parameter(
            REFUSED,
            "Whether the response is a stream of events.",
            False,
            note="`false` is accepted.",
            refusal="a job has no stream of images. Poll the job, or stream from /v1/images/generations",
            fix_spelling=read_boolean,
        ),
    ] = False
    webhook: Annotated[
        Annotated[str, Meta(max_length=2_000)] | None,
        Parameter(
            APPLIED,
            "An https URL to call when the job has ended.",
            "https://example.com/images",
            note="Your team needs a signing secret (docs/webhooks.md).",
        ),
    ] = None
    response_format: Annotated[
        Literal["b64_json", "url"],
        Parameter(WARNED, "Always URLs for a job.", "url", note="`b64_json` has no effect.", fix_spelling=read_word),
    ] = "url"

    @property
    def warnings(self) -> tuple[str, ...]:
        if self.response_format == "url":
            return ()
        return (f"response_format_ignored: '{self.response_format}' has no effect: a job's images are URLs",)


# The bodies by the word that documents use for their route.
BODY_TYPES: dict[str, type[ImageParams]] = {
    "generations": GenerationRequest,
    "edits": EditRequest,
    "jobs": CreateJobRequest,
}
