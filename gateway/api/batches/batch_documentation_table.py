"""The documentation of the routes of files and batches, by the name of the handler."""

from typing import Any

from gateway.api.batches.batch_request_types import CreateBatchRequest
from gateway.api.batches.batch_response_types import (
    BatchBody,
    BatchListBody,
    DeletedFileBody,
    FileBody,
    FileListBody,
)
from gateway.api.reference.route_documentation import (
    ExampleRequest,
    RequestParameter,
    ResponseDocumentation,
    RouteDocumentation,
    make_query_parameter,
)

PAGE_PARAMETERS: tuple[RequestParameter, ...] = (
    make_query_parameter(
        "limit", "Maximum number of entries on a page.", {"type": "integer", "minimum": 1, "maximum": 100}
    ),
    make_query_parameter("after", "`last_id` of the previous page. It may have been deleted within the last day."),
    make_query_parameter(
        "order",
        "`desc` (the default): the newest first; `asc`: the oldest.",
        {"type": "string", "enum": ["asc", "desc"]},
    ),
)
UPLOAD_FORM = {
    "type": "object",
    "properties": {
        "purpose": {"type": "string", "enum": ["batch"]},
        "file": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "A request on each line, as JSON: `custom_id`, `method`, `url` and `body`. At most 200 MiB.",
        },
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3_600, "maximum": 2_592_000},
    },
    "required": ["purpose", "file"],
}
FORM_ERRORS = (
    *("body_timeout", "body_too_large", "file_too_large", "invalid_form", "invalid_value", "too_many_bodies"),
    *("missing_required_parameter", "unknown_parameter", "unsupported_media_type", "storage_unavailable"),
)


def _describe_route(
    summary: str, description: str, response: ResponseDocumentation, errors: tuple[str, ...], **options: Any
) -> RouteDocumentation:
    """Describes a route. By default it has no example, since that would need an existing file or batch."""
    return RouteDocumentation(
        tag="Batches",
        summary=summary,
        description=description,
        responses={200: response},
        errors=errors,
        **({"examples": {}} | options),
    )


def _describe_list(
    summary: str, description: str, response: ResponseDocumentation, *filters: RequestParameter
) -> RouteDocumentation:
    return _describe_route(
        summary,
        description,
        response,
        errors=("invalid_value", "unknown_parameter"),
        parameters=(*PAGE_PARAMETERS, *filters),
        examples={"default": ExampleRequest()},
    )


BATCH_ROUTE_DOCUMENTATION = {
    "upload_file": _describe_route(
        "Upload a file",
        "Uploads the lines of a batch. The file is deleted after 30 days, `expires_after`, or with its prompts.",
        ResponseDocumentation("The file.", FileBody),
        form=UPLOAD_FORM,
        errors=FORM_ERRORS,
    ),
    "list_files": _describe_list(
        "List files",
        "The team's files, the newest first: uploaded ones, and the output of batches.",
        ResponseDocumentation("The files.", FileListBody),
        make_query_parameter("purpose", "Lists only files of this purpose: `batch` or `batch_output`."),
    ),
    "get_file": _describe_route(
        "Get a file",
        "Returns the name, size, purpose and times of the file, without its content.",
        ResponseDocumentation("The file.", FileBody),
        errors=("file_not_found",),
    ),
    "download_file": _describe_route(
        "Download a file",
        "Streams the content. The output file of a batch has a JSON object on each line.",
        ResponseDocumentation("The content.", "application/octet-stream"),
        errors=("file_not_found", "images_unavailable"),
    ),
    "delete_team_file": _describe_route(
        "Delete a file",
        "Deletes the file and its content at once.",
        ResponseDocumentation("The file is deleted.", DeletedFileBody),
        errors=("file_not_found", "file_in_use", "images_unavailable"),
    ),
    "create_batch": _describe_route(
        "Create a batch",
        "Validates all lines of the file, and then orders each as a job. If any line is invalid, or the "
        "estimate is above `max_cost`, the batch fails before anything is ordered.",
        ResponseDocumentation("The batch.", BatchBody),
        body=CreateBatchRequest,
        errors=("file_not_found", "too_many_batches"),
    ),
    "list_batches": _describe_list(
        "List batches",
        "The team's batches, the newest first.",
        ResponseDocumentation("The batches.", BatchListBody),
    ),
    "get_batch": _describe_route(
        "Get a batch",
        "Poll it until its status is `completed`, `failed`, `expired` or `cancelled`.",
        ResponseDocumentation("The batch.", BatchBody),
        errors=("batch_not_found",),
    ),
    "cancel_batch": _describe_route(
        "Cancel a batch",
        "Lines that are not ordered yet are dropped. Running orders cannot be cancelled: the batch ends "
        "with what they deliver. The request may be repeated.",
        ResponseDocumentation("The batch, which is `cancelling` until its orders end.", BatchBody),
        errors=("batch_not_found", "batch_ended"),
    ),
}
