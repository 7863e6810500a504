"""The types of the JSON bodies of the Responses API."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
from msgspec import Meta

from gateway.api.response_types import (
    OptionalText,
    OptionalUnixTime,
    PixelSize,
    UnixTime,
    UsageBody,
    UsdNumber,
    Warnings,
)

ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class ImageCallBody(TypedDict):
    """An image. Size, quality and format are those of the delivered image, never `auto`."""

    id: str
    type: Literal["image_generation_call"]
    status: Literal["in_progress", "completed"]
    result: Annotated[
        str | msgspec.Raw | None, Meta(description="Base64.", extra_json_schema={"type": ["string", "null"]})
    ]
    action: NotRequired[Literal["generate", "edit"]]
    size: NotRequired[PixelSize]
    quality: NotRequired[str]
    background: NotRequired[str]
    output_format: NotRequired[str]


class CachedTokensBody(TypedDict):
    """No tokens are cached."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokensBody(TypedDict):
    """No tokens are used for reasoning."""

    reasoning_tokens: int


class ResponseUsageBody(TypedDict):
    """The tokens of the images that the seller reported, and the cost. Unknown numbers are 0."""

    input_tokens: int
    input_tokens_details: CachedTokensBody
    output_tokens: int
    output_tokens_details: ReasoningTokensBody
    total_tokens: int
    cost: UsdNumber


class ToolUsageBody(TypedDict):
    """The tokens of `usage`, by kind."""

    image_gen: UsageBody


class ResponseErrorBody(TypedDict):
    """Why a response has no images."""

    code: str
    message: str
    type: str
    param: None


class IncompleteDetailsBody(TypedDict):
    """Why some images are missing."""

    reason: str


class ModelResponseBody(TypedDict):
    """A response: a job, in the form of OpenAI's Responses API. `output` has an `image_generation_call` for each image
    once the job has ended."""

    id: str
    object: Literal["response"]
    created_at: UnixTime
    completed_at: OptionalUnixTime
    status: ResponseStatus
    background: bool
    error: ResponseErrorBody | None
    incomplete_details: IncompleteDetailsBody | None
    instructions: None
    max_output_tokens: None
    max_tool_calls: None
    metadata: dict[str, str]
    model: Annotated[str, Meta(description="The model that the request named; otherwise the image model.")]
    output: list[ImageCallBody]
    parallel_tool_calls: bool
    previous_response_id: OptionalText
    reasoning: dict[str, None]
    safety_identifier: OptionalText
    service_tier: Literal["default"]
    store: bool
    temperature: None
    text: dict[str, dict[str, str]]
    tool_choice: Any
    tools: list[dict[str, Any]]
    tool_usage: ToolUsageBody | None
    top_logprobs: None
    top_p: None
    truncation: Literal["disabled"]
    usage: ResponseUsageBody | None
    user: OptionalText
    warnings: NotRequired[Warnings]


class ResponseEventBody(TypedDict):
    """The data of an event of a streamed response."""

    type: Annotated[str, Meta(description="For example `response.completed` or `response.output_item.done`.")]
    sequence_number: int
    response: NotRequired[ModelResponseBody]
    output_index: NotRequired[int]
    item_id: NotRequired[str]
    item: NotRequired[ImageCallBody]


class DeletedResponseBody(TypedDict):
    """A deleted response."""

    id: str
    object: Literal["response"]
    deleted: bool


class InputItemListBody(TypedDict):
    """The input of a response."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: OptionalText
    last_id: OptionalText
    has_more: bool
