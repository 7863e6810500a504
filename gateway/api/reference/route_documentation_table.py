"""The documentation of every route, by the name of its handler. A test fails if a route has none."""

from gateway.access.key_requests import ChangeKeyRequest, CreateKeyRequest, RotateKeyRequest
from gateway.api.accounts.accounts_documentation_table import ACCOUNT_ROUTE_DOCUMENTATION
from gateway.api.admin_response_types import (
    AdminEventListBody,
    ApiKeyBody,
    ApiKeyListBody,
    CreatedKeyBody,
    TeamListBody,
)
from gateway.api.batches.batch_documentation_table import BATCH_ROUTE_DOCUMENTATION
from gateway.api.model_response_types import ModelBody, ModelListBody
from gateway.api.parameter_schema import build_example
from gateway.api.parameter_table import CreateJobRequest, EditRequest, GenerationRequest
from gateway.api.quote_response_types import QuoteBody
from gateway.api.reference.budget_documentation import BUDGET_ROUTE_DOCUMENTATION
from gateway.api.reference.monitoring_documentation import MONITORING_ROUTE_DOCUMENTATION
from gateway.api.reference.responses_documentation import RESPONSES_DOCUMENTATION
from gateway.api.reference.route_documentation import (
    ExampleRequest,
    ResponseDocumentation,
    RouteDocumentation,
    make_header,
    make_query_parameter,
)
from gateway.api.reference.shared_documentation import (
    ADMIN_LIMIT,
    EXAMPLE_IMAGE,
    FAILED_JOB_ERRORS,
    IDEMPOTENCY_KEY,
    INPUT_IMAGE_ERRORS,
    JOB_HEADERS,
    KEY_CHANGE_ERRORS,
    KEY_ERRORS,
    MAX_WAIT,
    ORDER_ERRORS,
    POLL_HEADERS,
    PREFER_WAIT,
)
from gateway.api.response_types import (
    DeletedJobBody,
    ImageEventBody,
    ImagesResponseBody,
    JobBody,
    JobEventBody,
    JobListBody,
)
from gateway.api.usage.usage_documentation_table import USAGE_ROUTE_DOCUMENTATION
from gateway.api.webhooks.webhook_documentation_table import WEBHOOK_ROUTE_DOCUMENTATION
from gateway.api.webhooks.webhook_target_documentation import WEBHOOK_TARGET_DOCUMENTATION

TAGS = {
    "Images": "OpenAI's Images API. A response has the images. OpenAI's and Azure's clients work unchanged.",
    "Responses": "OpenAI's Responses API with its image tool. A response is a job.",
    "Models": "The configured models. OpenAI's SDKs list them.",
    "Jobs": "A job is accepted at once, and continues without its client.",
    "Batches": "OpenAI's Files and Batch API: thousands of requests for images in one file.",
    "Webhooks": "Requests to your team's own servers at the end of jobs: their log, and sending them again.",
    "Usage": "What your team spent.",
    "Administration": "For admin keys: API keys, teams, and what admins did.",
    "Monitoring": "For operators. Without an API key.",
    "Documentation": "This documentation, in several forms. Without an API key.",
}
IMAGES_RESPONSE = ResponseDocumentation(
    "The images; with `stream`, as server-sent events.", ImagesResponseBody, JOB_HEADERS, ImageEventBody
)

PATH_PARAMETERS = {
    "batch_id": "The id of the batch.",
    "delivery_id": "The id of the delivery.",
    "file_id": "The id of the file.",
    "index": "The index of the image in the job.",
    "job_id": "The id of the job.",
    "model_id": "A model or an alias. It may contain slashes.",
    "response_id": "The id of the response: that of its job, with `resp_` for `job_`.",
    "key_id": "The id of the API key: `igw_<id>_<secret>` contains it.",
    "override_id": "The id of the override.",
    "target_id": "The id of the target of webhooks.",
    "key": "The image's key, as its URL has it.",
}
RESPONSE_HEADERS = {
    "etag": "Send it as `If-None-Match`, to get 304 while nothing has changed.",
    "location": "The path of the new resource.",
    "openai-poll-after-ms": "When to poll again, in milliseconds.",
    "retry-after": "When to poll again, in seconds.",
    "x-igw-attempts": "Number of orders at sellers.",
    "x-igw-cost-usd": "Cost of the delivered images.",
    "x-igw-job-id": "The id of the job.",
    "x-igw-seller": "The sellers that delivered.",
    "x-igw-warnings": "The warnings of the body, each as `code: text`, joined by `; `. No warning contains `; `.",
}
AUTHENTICATION_ERRORS = (
    *("api_key_expired", "api_key_revoked", "insufficient_scope", "invalid_api_key", "missing_api_key"),
    "team_not_configured",
)
BODY_ERRORS = (
    *("body_timeout", "body_too_large", "duplicate_parameter", "invalid_json", "invalid_value"),
    *("missing_required_parameter", "too_many_bodies", "unknown_parameter", "unsupported_encoding"),
    *("unsupported_media_type", "unsupported_parameter"),
)

ROUTE_DOCUMENTATION = {
    **BATCH_ROUTE_DOCUMENTATION,
    **WEBHOOK_ROUTE_DOCUMENTATION,
    **WEBHOOK_TARGET_DOCUMENTATION,
    **USAGE_ROUTE_DOCUMENTATION,
    **BUDGET_ROUTE_DOCUMENTATION,
    **ACCOUNT_ROUTE_DOCUMENTATION,
    **MONITORING_ROUTE_DOCUMENTATION,
    "create_generation": RouteDocumentation(
        tag="Images",
        summary="Generate images",
        description="Responds when the images are complete. If its client disconnects, the job continues; the same "
        "request again, or a retry of OpenAI's SDK, gets the same job.",
        body=GenerationRequest,
        parameters=(IDEMPOTENCY_KEY,),
        responses={200: IMAGES_RESPONSE},
        errors=(*ORDER_ERRORS, *FAILED_JOB_ERRORS),
        examples={
            "default": ExampleRequest(
                body={"model": "gpt-image-2", "prompt": "a lighthouse at dawn", "size": "1536x1024", "quality": "low"},
                sdk_call="images.generate",
            ),
            "url": ExampleRequest(
                body={"prompt": "a lighthouse at dawn", "quality": "low", "response_format": "url"},
            ),
            "stream": ExampleRequest(body={"prompt": "a lighthouse at dawn", "quality": "low", "stream": True}),
            "more": ExampleRequest(body=build_example(GenerationRequest)),
        },
    ),
    "create_edit": RouteDocumentation(
        tag="Images",
        summary="Edit images",
        description="Edits up to 16 images as the prompt says. The body is a form with files (`image`, `image[]`, "
        "`mask`), as OpenAI's SDKs send it, or JSON with URLs, data URIs or base64.",
        body=EditRequest,
        accepts_forms=True,
        parameters=(IDEMPOTENCY_KEY,),
        responses={200: IMAGES_RESPONSE},
        errors=(*ORDER_ERRORS, *INPUT_IMAGE_ERRORS, *FAILED_JOB_ERRORS),
        examples={
            "form": ExampleRequest(
                body={"prompt": "add a red boat", "quality": "low"}, files={"image": "cat.png"}, sdk_call="images.edit"
            ),
            "default": ExampleRequest(body={"prompt": "add a red boat", "quality": "low", "image": EXAMPLE_IMAGE}),
        },
    ),
    "create_variation": RouteDocumentation(
        tag="Images",
        summary="Variations (retired)",
        description="Always responds 410, as OpenAI's API does: send the image with a prompt to the edits.",
        errors=("endpoint_retired",),
        examples={},
    ),
    **RESPONSES_DOCUMENTATION,
    "list_models": RouteDocumentation(
        tag="Models",
        summary="List models",
        description="The models that your team can use, with their sizes, qualities and prices.",
        responses={200: ResponseDocumentation("The models.", ModelListBody)},
        examples={"default": ExampleRequest(sdk_call="models.list")},
    ),
    "get_model": RouteDocumentation(
        tag="Models",
        summary="Get a model",
        description="Finds the model by its name, or by an alias with a warning in `x-igw-warnings`.",
        responses={200: ResponseDocumentation("The model.", ModelBody, ("x-igw-warnings",))},
        errors=("model_not_found",),
        examples={"default": ExampleRequest()},
    ),
    "create_job": RouteDocumentation(
        tag="Jobs",
        summary="Create a job",
        description="Accepts a job that generates or edits images. Responds at once, or after `Prefer: wait=N`.",
        body=CreateJobRequest,
        accepts_forms=True,
        parameters=(IDEMPOTENCY_KEY, PREFER_WAIT),
        responses={
            200: ResponseDocumentation("The job has ended.", JobBody, (*JOB_HEADERS, "location")),
            202: ResponseDocumentation("The job is accepted.", JobBody, (*JOB_HEADERS, "location", *POLL_HEADERS)),
        },
        errors=(*ORDER_ERRORS, *INPUT_IMAGE_ERRORS, "withdrawn"),
        examples={
            "default": ExampleRequest(
                body={"prompt": "a lighthouse at dawn", "resolution": "1k", "aspect_ratio": "16:9", "quality": "low"},
                headers={"prefer": "wait=30"},
            ),
            "edit": ExampleRequest(
                body={"operation": "edit", "prompt": "add a red boat", "quality": "low", "image": EXAMPLE_IMAGE}
            ),
        },
    ),
    "get_job": RouteDocumentation(
        tag="Jobs",
        summary="Get a job",
        description="Returns the job at once, or when it has ended, or after `wait` seconds.",
        parameters=(make_query_parameter("wait", "Seconds to wait for the end of the job.", MAX_WAIT),),
        responses={
            200: ResponseDocumentation("The job.", JobBody, (*JOB_HEADERS, "etag", *POLL_HEADERS)),
            304: ResponseDocumentation("The job has not changed.", None, ("etag",)),
        },
        errors=("job_not_found", "invalid_value"),
        examples={"default": ExampleRequest(query="wait=30")},
    ),
    "list_jobs": RouteDocumentation(
        tag="Jobs",
        summary="List jobs",
        description="The team's jobs, the newest first. While `has_more`, `last_id` is the `after` of the next page. "
        "With filters a page may have few entries, since each examines 500 jobs at most.",
        parameters=(
            make_query_parameter("limit", "Jobs of a page.", {"type": "integer", "minimum": 1, "maximum": 100}),
            make_query_parameter("after", "`last_id` of the previous page."),
            make_query_parameter("status", "One or more of the statuses, with commas."),
            make_query_parameter("model", "Only jobs of this model."),
            make_query_parameter("key", "Only jobs that the API key with this id created."),
            make_query_parameter("since", "Only jobs created since: a date, or seconds since 1970."),
            make_query_parameter("label", "Only jobs with this label; may be repeated."),
        ),
        responses={200: ResponseDocumentation("The jobs.", JobListBody)},
        errors=("invalid_value", "unknown_parameter"),
        examples={"default": ExampleRequest(query="status=completed,failed&limit=10")},
    ),
    "cancel_job": RouteDocumentation(
        tag="Jobs",
        summary="Cancel a job",
        description="Images that are not ordered yet are dropped. Running orders cannot be cancelled: the job ends "
        "with what they deliver. `max_remaining_cost` is what they may still cost. It may be repeated.",
        responses={
            200: ResponseDocumentation("The job is cancelled.", JobBody, (*JOB_HEADERS, "location")),
            202: ResponseDocumentation("Orders still run.", JobBody, (*JOB_HEADERS, "location", *POLL_HEADERS)),
        },
        errors=("job_not_found", "job_ended"),
        examples={},
    ),
    "delete_job": RouteDocumentation(
        tag="Jobs",
        summary="Delete a job",
        description="Its images, its prompt and all other text are deleted at once. Its costs stay in the ledger. A "
        "running job must be cancelled first. It may be repeated.",
        responses={200: ResponseDocumentation("The job is deleted.", DeletedJobBody)},
        errors=("job_not_found", "job_running", "images_unavailable"),
        examples={},
    ),
    "stream_job_events": RouteDocumentation(
        tag="Jobs",
        summary="Follow a job",
        description="Server-sent events until the job ends. Connect again with `Last-Event-ID` if the stream ends "
        "without a final status. 204 ends a browser's `EventSource`: the job has ended, and you have all events.",
        parameters=(
            make_query_parameter("starting_after", "The number of the last event that you have.", {"type": "integer"}),
            make_header("last-event-id", "The same, in the header that browsers send.", "2"),
        ),
        responses={
            200: ResponseDocumentation("The events.", "text/event-stream", ("x-igw-job-id",), JobEventBody),
            204: ResponseDocumentation("The job has ended, and there are no later events.", None, ("x-igw-job-id",)),
        },
        errors=("job_not_found", "invalid_value", "unknown_parameter"),
        examples={},
    ),
    "get_job_image": RouteDocumentation(
        tag="Jobs",
        summary="Download an image of a job",
        description="The bytes of the image, or a part of them with `Range`.",
        parameters=(
            make_query_parameter("w", "A thumbnail of this width.", {"type": "integer", "enum": [160, 320, 640]}),
            make_query_parameter("download", "`1`: browsers save the image as a file."),
        ),
        responses={
            200: ResponseDocumentation("The image.", "image/*", ("etag", "x-igw-job-id")),
            206: ResponseDocumentation("A part of the image.", "image/*", ("etag", "x-igw-job-id")),
            304: ResponseDocumentation("The client has the image.", None, ("etag",)),
        },
        errors=(
            *("job_not_found", "image_not_found", "image_deleted", "images_unavailable", "range_not_satisfiable"),
            *("invalid_value", "unknown_parameter"),
        ),
        examples={},
    ),
    "create_quote": RouteDocumentation(
        tag="Jobs",
        summary="Get a quote",
        description="The plan of a job without an order: sellers, prices and times, and why others are excluded.",
        body=CreateJobRequest,
        accepts_forms=True,
        responses={200: ResponseDocumentation("The quote.", QuoteBody)},
        errors=("model_not_found", *INPUT_IMAGE_ERRORS),
        examples={"default": ExampleRequest(body={"prompt": "a lighthouse at dawn", "n": 2, "quality": "high"})},
    ),
    "get_image_file": RouteDocumentation(
        tag="Jobs",
        summary="Download an image",
        description="Use the URLs of jobs and responses as they are: they are signed, and need no API key.",
        parameters=(
            make_query_parameter("exp", "When the URL expires."),
            make_query_parameter("sig", "The signature."),
        ),
        responses={200: ResponseDocumentation("The image.", "image/*")},
        errors=("link_invalid", "image_deleted", "images_unavailable"),
        examples={},
    ),
    "receive_callback": RouteDocumentation(hidden_because="Only sellers call it, at URLs that the gateway makes."),
    "create_key": RouteDocumentation(
        tag="Administration",
        summary="Create an API key",
        description="Only this response contains the key.",
        body=CreateKeyRequest,
        responses={201: ResponseDocumentation("The key.", CreatedKeyBody, ("location",))},
        examples={"default": ExampleRequest(body={"team": "design", "name": "nightly build", "expires_in": "90d"})},
    ),
    "list_keys": RouteDocumentation(
        tag="Administration",
        summary="List API keys",
        parameters=(
            make_query_parameter("team", "Only keys of this team."),
            make_query_parameter("limit", "Keys of a page.", ADMIN_LIMIT),
            make_query_parameter("after", "`last_id` of the previous page."),
        ),
        responses={200: ResponseDocumentation("The keys, the newest first.", ApiKeyListBody)},
        errors=("invalid_value",),
        examples={"default": ExampleRequest(query="team=design&limit=20")},
    ),
    "get_key": RouteDocumentation(
        tag="Administration",
        summary="Get an API key",
        responses={200: ResponseDocumentation("The key.", ApiKeyBody)},
        errors=KEY_ERRORS,
    ),
    "change_key": RouteDocumentation(
        tag="Administration",
        summary="Change an API key",
        description=(
            "Changes what the body contains, on all replicas within 5 seconds. The key stays valid, and money "
            "that was spent or is held counts. `scopes` and `team` do not change."
        ),
        body=ChangeKeyRequest,
        responses={200: ResponseDocumentation("The changed key.", ApiKeyBody)},
        errors=(*KEY_CHANGE_ERRORS, "api_key_inactive", "invalid_value", "unsupported_parameter"),
        examples={"default": ExampleRequest(body={"budget": {"day": "5.00", "lifetime": None}})},
    ),
    "rotate_key": RouteDocumentation(
        tag="Administration",
        summary="Rotate an API key",
        description="Creates a successor with the same options. The old key still works for the `overlap`.",
        body=RotateKeyRequest,
        responses={201: ResponseDocumentation("The new key.", CreatedKeyBody, ("location",))},
        errors=(*KEY_CHANGE_ERRORS, "api_key_inactive"),
        examples={"default": ExampleRequest(body={"overlap": "24h"})},
    ),
    "revoke_key": RouteDocumentation(
        tag="Administration",
        summary="Revoke an API key",
        description="Ends the key at once, and for good. Its jobs continue.",
        responses={200: ResponseDocumentation("The revoked key.", ApiKeyBody)},
        errors=KEY_CHANGE_ERRORS,
    ),
    "delete_key": RouteDocumentation(
        tag="Administration",
        summary="Delete an API key",
        description="Does the same as revoking it. The key stays listed as revoked.",
        responses={200: ResponseDocumentation("The revoked key.", ApiKeyBody)},
        errors=KEY_CHANGE_ERRORS,
    ),
    "list_admin_events": RouteDocumentation(
        tag="Administration",
        summary="List what admins did",
        parameters=(
            make_query_parameter("limit", "Events of a page.", ADMIN_LIMIT),
            make_query_parameter("after", "`last_id` of the previous page."),
        ),
        responses={200: ResponseDocumentation("The events, the newest first.", AdminEventListBody)},
        errors=("invalid_value",),
        examples={"default": ExampleRequest(query="limit=20")},
    ),
    "list_teams": RouteDocumentation(
        tag="Administration",
        summary="List teams",
        description="The configured teams with their limits, budgets and what they have spent.",
        responses={200: ResponseDocumentation("The teams.", TeamListBody)},
    ),
}
