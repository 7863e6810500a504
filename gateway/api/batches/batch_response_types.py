"""The types of the JSON bodies that describe files and batches."""

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from gateway.api.batches.batch_records import BatchStatus
from gateway.api.response_types import OptionalText, OptionalUnixTime, UnixTime, UsdNumber


class FileBody(TypedDict):
    """A file, without its content."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: UnixTime
    expires_at: UnixTime
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]
    status_details: None


class FileListBody(TypedDict):
    """A page of files."""

    object: Literal["list"]
    data: list[FileBody]
    has_more: bool
    first_id: OptionalText
    last_id: OptionalText


class DeletedFileBody(TypedDict):
    """The confirmation of a deletion."""

    id: str
    object: Literal["file"]
    deleted: Literal[True]


class BatchErrorBody(TypedDict):
    """A reason why a batch failed."""

    code: str
    message: str
    param: OptionalText
    line: Annotated[int | None, Meta(description="The line of the input file, from 1; null for the whole file.")]


class BatchErrorListBody(TypedDict):
    """The reasons why a batch failed."""

    object: Literal["list"]
    data: list[BatchErrorBody]


class RequestCountsBody(TypedDict):
    """The lines of a batch, and those whose results are stored."""

    total: int
    completed: int
    failed: int


class BatchEstimateBody(TypedDict):
    """The cost of all lines, as estimated before the first order."""

    cost: Annotated[UsdNumber, Meta(description="The expected cost in USD.")]
    max_cost: Annotated[UsdNumber, Meta(description="The highest possible cost in USD.")]


class BatchBody(TypedDict):
    """OpenAI's batch. `max_cost`, `estimate`, `cost` and `key` are the gateway's own."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: Annotated[
        BatchErrorListBody | None,
        Meta(description="The errors of a failed batch; in a list of batches, the first ten."),
    ]
    input_file_id: str
    completion_window: Literal["24h"]
    status: BatchStatus
    output_file_id: Annotated[str | None, Meta(description="The file with the responses, once the batch has ended.")]
    error_file_id: Annotated[
        str | None, Meta(description="The file with the errors of lines without images, once the batch has ended.")
    ]
    created_at: UnixTime
    expires_at: Annotated[int, Meta(description="When lines that are not ordered yet get an error.")]
    in_progress_at: OptionalUnixTime
    finalizing_at: OptionalUnixTime
    completed_at: OptionalUnixTime
    failed_at: OptionalUnixTime
    expired_at: OptionalUnixTime
    cancelling_at: OptionalUnixTime
    cancelled_at: OptionalUnixTime
    request_counts: RequestCountsBody
    metadata: dict[str, str] | None
    max_cost: UsdNumber | None
    estimate: BatchEstimateBody | None
    cost: Annotated[UsdNumber, Meta(description="The cost in USD of the lines whose results are stored.")]
    key: Annotated[str | None, Meta(description="The id of the API key that created the batch.")]


class BatchListBody(TypedDict):
    """A page of batches."""

    object: Literal["list"]
    data: list[BatchBody]
    has_more: bool
    first_id: OptionalText
    last_id: OptionalText
