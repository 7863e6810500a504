"""The documentation of the routes of files and batches, by the name of the handler."""

from gateway.api.batches.batch_requests import CreateBatchRequest
from gateway.api.batches.batch_response_types import (
    BatchBody,
    BatchListBody,
    DeletedFileBody,
    FileBody,
    FileListBody,
)
from gateway.api.reference.route_documentation import (
    RequestParameter,
    ResponseDocumentation,
    RouteDocumentation,
    make_query_parameter,
)

PAGE_PARAMETERS: tuple[RequestParameter, ...] = (
    make_query_parameter("limit", "Entries of a page.", {"type": "integer", "minimum": 1, "maximum": 100}),
    make_query_parameter("after", "`last_id` of the previous page."),
    make_query_parameter("order", "`desc`: the newest first.", {"type": "string", "enum": ["desc"]}),
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

BATCH_ROUTE_DOCUMENTATION = {
    "upload_file": RouteDocumentation(
        tag="Batches",
        summary="Upload a file",
        description="Uploads the lines of a batch. The file is deleted after 30 days, or after `expires_after`.",
        form=UPLOAD_FORM,
        responses={200: ResponseDocumentation("The file.", FileBody)},
        errors=FORM_ERRORS,
        examples={},
    ),
    "list_files": RouteDocumentation(
        tag="Batches",
        summary="List files",
        description="The team's files, the newest first: uploaded ones, and the output of batches.",
        parameters=(*PAGE_PARAMETERS, make_query_parameter("purpose", "`batch` or `batch_output`.")),
        responses={200: ResponseDocumentation("The files.", FileListBody)},
        errors=("invalid_value", "unknown_parameter"),
    ),
    "get_file": RouteDocumentation(
        tag="Batches",
        summary="Get a file",
        responses={200: ResponseDocumentation("The file, without its content.", FileBody)},
        errors=("file_not_found",),
        examples={},
    ),
    "download_file": RouteDocumentation(
        tag="Batches",
        summary="Download a file",
        description="Streams the content: of the output of a batch, a JSON object on each line.",
        responses={200: ResponseDocumentation("The content.", "application/octet-stream")},
        errors=("file_not_found", "images_unavailable"),
        examples={},
    ),
    "delete_team_file": RouteDocumentation(
        tag="Batches",
        summary="Delete a file",
        description="Deletes the file and its content at once.",
        responses={200: ResponseDocumentation("The file is deleted.", DeletedFileBody)},
        errors=("file_not_found", "file_in_use", "images_unavailable"),
        examples={},
    ),
    "create_batch": RouteDocumentation(
        tag="Batches",
        summary="Create a batch",
        description="Validates all lines of the file, and then orders each as a job. If any line is invalid, or the "
        "estimate is above `max_cost`, the batch fails before anything is ordered.",
        body=CreateBatchRequest,
        responses={200: ResponseDocumentation("The batch.", BatchBody)},
        errors=("file_not_found", "too_many_batches"),
        examples={},
    ),
    "list_batches": RouteDocumentation(
        tag="Batches",
        summary="List batches",
        description="The team's batches, the newest first.",
        parameters=PAGE_PARAMETERS,
        responses={200: ResponseDocumentation("The batches.", BatchListBody)},
        errors=("invalid_value", "unknown_parameter"),
    ),
    "get_batch": RouteDocumentation(
        tag="Batches",
        summary="Get a batch",
        description="Poll it until its status is `completed`, `failed`, `expired` or `cancelled`.",
        responses={200: ResponseDocumentation("The batch.", BatchBody)},
        errors=("batch_not_found",),
        examples={},
    ),
    "cancel_batch": RouteDocumentation(
        tag="Batches",
        summary="Cancel a batch",
        description="Lines that are not ordered yet are dropped. Running orders cannot be cancelled: the batch ends "
        "with what they deliver. It may be repeated.",
        responses={200: ResponseDocumentation("The batch, which is `cancelling` until its orders end.", BatchBody)},
        errors=("batch_not_found", "batch_ended"),
        examples={},
    ),
}
