"""The types of the JSON bodies that the serializers return. The OpenAPI document has their schemas and descriptions.

A type's name is that of its schema, with `Body` appended.
"""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from gateway.jobs.job import AttemptState, JobState
from providers.faults import ChargeStatus
from providers.orders import Operation

# USD as a JSON number, written without rounding.
UsdNumber = Annotated[msgspec.Raw, Meta(description="USD.", extra_json_schema={"type": "number"})]
UnixTime = Annotated[int, Meta(description="Seconds since 1970, UTC.")]
OptionalUnixTime = Annotated[int | None, Meta(description="Seconds since 1970, UTC; null if it has not happened.")]
PixelSize = Annotated[str, Meta(description="Width and height in pixels.", examples=["1536x1024"])]
Warnings = Annotated[list[str], Meta(description="Each begins with a code: what differs from the request, and why.")]
OptionalText = str | None


class OpenaiErrorBody(TypedDict):
    """An error in the form that OpenAI's clients read."""

    message: Annotated[str, Meta(description="What happened, what to do, and whether money was charged.")]
    type: str
    param: Annotated[str | None, Meta(description="The parameter that is wrong.")]
    code: Annotated[str, Meta(description="A code of the table of errors.")]


class ErrorResponseBody(TypedDict):
    """The error response of OpenAI's routes."""

    error: OpenaiErrorBody


class ProblemBody(TypedDict):
    """The error response of all other routes: a problem (RFC 9457) that also contains OpenAI's error."""

    type: Annotated[str, Meta(description="`urn:image-gateway:problem:` and the code.")]
    title: str
    status: int
    detail: str
    request_id: str | None
    error: OpenaiErrorBody


class InputTokensBody(TypedDict):
    """The input tokens by kind."""

    text_tokens: int
    image_tokens: int


class UsageBody(TypedDict):
    """The tokens that the seller reported, and the cost of the delivered images. Unknown numbers are 0."""

    input_tokens: int
    input_tokens_details: InputTokensBody
    output_tokens: int
    total_tokens: int
    cost: UsdNumber


class ImageBody(TypedDict):
    """An image, as base64 or as a URL."""

    b64_json: NotRequired[str]
    url: NotRequired[Annotated[str, Meta(description="A signed URL, valid for an hour.")]]


class ImagesResponseBody(TypedDict):
    """OpenAI's response with the images. Size, quality and format are those of the delivered images, never `auto`."""

    created: UnixTime
    data: list[ImageBody]
    size: PixelSize
    output_format: str
    quality: NotRequired[str]
    background: NotRequired[str]
    usage: UsageBody
    warnings: NotRequired[Warnings]
    safety_identifier: NotRequired[Annotated[str, Meta(description="As the request sent it.")]]


class ImageEventBody(ImageBody):
    """The data of an event of a stream: one `completed` event for each image. Its usage is the image's share."""

    type: Literal["image_generation.completed", "image_edit.completed"]
    created_at: UnixTime
    size: PixelSize
    quality: Annotated[str, Meta(description="`auto` if the seller offers no choice of it.")]
    background: Annotated[str, Meta(description="`auto` if the image has an alpha channel.")]
    output_format: str
    usage: UsageBody
    warnings: NotRequired[Warnings]
    safety_identifier: NotRequired[str]


class RequestedBody(TypedDict):
    """The image parameters as the client sent them; null: not sent, or `auto`."""

    size: OptionalText
    resolution: OptionalText
    aspect_ratio: OptionalText
    quality: OptionalText
    output_format: OptionalText
    background: OptionalText


class EffectiveBody(TypedDict):
    """The parameters of the delivered images, as measured."""

    size: PixelSize
    resolution: OptionalText
    aspect_ratio: OptionalText
    quality: Annotated[str | None, Meta(description="null if the seller offers no choice of it.")]
    output_format: str
    background: Annotated[str | None, Meta(description="null if an image has an alpha channel.")]


class JobImageBody(TypedDict):
    """A delivered image of a job."""

    index: int
    url: Annotated[
        str | None,
        Meta(description="A signed URL, valid until the job's `expires_at`. Null if the image was deleted."),
    ]
    output_format: str
    size: PixelSize
    quality: OptionalText
    bytes: int
    sha256: str
    seller: str


class JobErrorBody(TypedDict):
    """Why a job ended without images."""

    code: str
    message: str
    charge: Annotated[ChargeStatus, Meta(description="Whether a seller may have charged the operator.")]


class PlannedSellerBody(TypedDict):
    """A seller of the plan. `quote`: the expected price of the job. `seconds`: the expected time."""

    seller: str
    quote: UsdNumber
    seconds: float
    fidelity: Annotated[Literal["exact", "near"], Meta(description="`near`: with substitutions.")]
    substitutions: Annotated[list[str], Meta(description="Differences between the request and the delivery.")]


class PlanBody(TypedDict):
    """The planned parameters, and the sellers in the order in which they are tried."""

    rule: Annotated[str | None, Meta(description="The rule that selected the policy; null if the client named it.")]
    size: PixelSize
    resolution: str
    aspect_ratio: str
    quality: str
    output_format: str
    sellers: list[PlannedSellerBody]


class AttemptBody(TypedDict):
    """An order at a seller, with what the seller said."""

    seller: str
    images: Annotated[list[int], Meta(description="The indexes of the ordered images.")]
    state: AttemptState
    fault: Annotated[str | None, Meta(description="The kind of failure.")]
    seller_status: Annotated[int | None, Meta(description="The seller's HTTP status.")]
    seller_code: Annotated[str | None, Meta(description="The seller's error code.")]
    seller_message: OptionalText
    seller_notes: list[str]
    delivered: int
    cost: UsdNumber
    seconds: float | None


class CommonJobBody(TypedDict):
    """The fields that a job has alone and in a list."""

    id: str
    object: Literal["job"]
    operation: Operation
    status: JobState
    model: str
    created_at: UnixTime
    finished_at: OptionalUnixTime


class JobBody(CommonJobBody):
    """A job. The prompt is not part of it."""

    deadline_at: UnixTime
    expires_at: Annotated[int | None, Meta(description="When the URLs expire. Read the job again for new ones.")]
    kept_until: Annotated[int | None, Meta(description="When the job is deleted. Null until its costs are settled.")]
    images_kept_until: Annotated[int | None, Meta(description="When the images are deleted.")]
    prompt_kept_until: Annotated[int | None, Meta(description="When the prompt is deleted.")]
    has_images: Annotated[bool, Meta(description="Whether there are images, and they are kept.")]
    has_prompt: Annotated[bool, Meta(description="Whether the prompt is kept.")]
    n: Annotated[int, Meta(description="Number of requested images.")]
    requested: RequestedBody
    effective: EffectiveBody | None
    images: list[JobImageBody]
    usage: UsageBody
    cancel_requested: bool
    max_remaining_cost: Annotated[
        msgspec.Raw,
        Meta(description="The most that the job may still cost, USD.", extra_json_schema={"type": "number"}),
    ]
    warnings: Warnings
    error: JobErrorBody | None
    policy: OptionalText
    plan: PlanBody | None
    attempts: list[AttemptBody]
    metadata: dict[str, str]
    key: Annotated[str | None, Meta(description="The id of the API key that created the job.")]
    labels: list[str]
    batch: Annotated[str | None, Meta(description="The batch that the job is a line of.")]
    webhook: Annotated[bool, Meta(description="Whether a webhook is sent when the job has ended.")]


class JobSummaryBody(CommonJobBody):
    """A job in a list."""

    n: Annotated[int, Meta(description="Number of requested images.")]
    delivered: Annotated[int, Meta(description="Number of delivered images.")]
    cost: UsdNumber
    warnings: Warnings
    error: JobErrorBody | None
    key: Annotated[str | None, Meta(description="The id of the API key that created the job.")]
    labels: list[str]
    batch: Annotated[str | None, Meta(description="The batch that the job is a line of.")]


class JobListBody(TypedDict):
    """A page of jobs, the newest first."""

    object: Literal["list"]
    data: list[JobSummaryBody]
    has_more: bool
    first_id: OptionalText
    last_id: Annotated[
        str | None, Meta(description="The `after` of the next page. It may be a job that is not listed.")
    ]


class DeletedJobBody(TypedDict):
    """A deleted job."""

    id: str
    object: Literal["job.deleted"]
    deleted: bool


class EventJobBody(TypedDict):
    """A job at the time of an event. The job itself has more, and later corrections of its cost."""

    id: str
    object: Literal["job"]
    status: JobState
    n: Annotated[int, Meta(description="Number of requested images.")]
    delivered: Annotated[int, Meta(description="Number of images delivered so far.")]
    cost: UsdNumber


class JobEventBody(TypedDict):
    """The data of a job's event. An event is the same whenever it is read."""

    type: Annotated[str, Meta(description="`job.` and `queued`, `in_progress`, `image`, or the final status.")]
    number: Annotated[int, Meta(description="The event's `id`, from 1.")]
    created_at: Annotated[float, Meta(description="Seconds since 1970, UTC.")]
    image: NotRequired[Annotated[int, Meta(description="The index of the image.")]]
    job: EventJobBody


class PageBody(TypedDict):
    """The fields of every page of a list."""

    object: Literal["list"]
    first_id: OptionalText
    last_id: Annotated[str | None, Meta(description="Send it as `after` to get the next page.")]
    has_more: bool


class ReadinessBody(TypedDict):
    """Whether the gateway accepts jobs, and the state of its parts."""

    ready: bool
    draining: bool
    jobs: Annotated[int, Meta(description="Jobs that this process works on.")]
    config: dict[str, Any]
    store: dict[str, Any]
    storage: dict[str, Any]
    tasks: dict[str, Any]
    metrics: Annotated[dict[str, Any], Meta(description="How long ago `/metrics` was read.")]
