"""The documentation of the routes of OpenAI's Responses API."""

from gateway.api.reference.route_documentation import (
    ExampleRequest,
    ResponseDocumentation,
    RouteDocumentation,
    make_query_parameter,
)
from gateway.api.reference.shared_documentation import (
    EXAMPLE_IMAGE,
    FAILED_JOB_ERRORS,
    IDEMPOTENCY_KEY,
    INPUT_IMAGE_ERRORS,
    JOB_HEADERS,
    ORDER_ERRORS,
    POLL_HEADERS,
)
from gateway.api.responses_api.response_body_types import (
    DeletedResponseBody,
    InputItemListBody,
    ModelResponseBody,
    ResponseEventBody,
)
from gateway.api.responses_api.response_parameter_table import CreateResponseRequest

MODEL_RESPONSE = ResponseDocumentation(
    "The response; with `stream`, as server-sent events.",
    ModelResponseBody,
    (*JOB_HEADERS, *POLL_HEADERS),
    ResponseEventBody,
)
INCLUDE_PARAMETERS = (
    make_query_parameter("include", "Has no effect: an image has no further output."),
    make_query_parameter("include[]", "The same as `include`, in the form that OpenAI's SDKs send."),
)
RESPONSES_DOCUMENTATION = {
    "create_response": RouteDocumentation(
        tag="Responses",
        summary="Create a response",
        description="Generates an image, or edits those of the input, with the tool `image_generation`. No text model "
        "runs: the prompt reaches the image model as it is written. With `background`, the response comes at once.",
        body=CreateResponseRequest,
        parameters=(IDEMPOTENCY_KEY,),
        responses={200: MODEL_RESPONSE},
        errors=(
            *(*ORDER_ERRORS, *INPUT_IMAGE_ERRORS, *FAILED_JOB_ERRORS),
            *("previous_response_not_found", "image_not_found", "job_running"),
        ),
        examples={
            "default": ExampleRequest(
                body={
                    "model": "gpt-5",
                    "input": "a lighthouse at dawn",
                    "tools": [{"type": "image_generation", "size": "1536x1024", "quality": "low"}],
                },
                sdk_call="responses.create",
            ),
            "background": ExampleRequest(
                body={"input": "a lighthouse", "tools": [{"type": "image_generation"}], "background": True}
            ),
            "edit": ExampleRequest(
                body={
                    "input": [
                        {
                            "role": "user",
                            "content": [
                                {"type": "input_text", "text": "add a red boat"},
                                {"type": "input_image", "image_url": EXAMPLE_IMAGE},
                            ],
                        }
                    ],
                    "tools": [{"type": "image_generation", "quality": "low"}],
                }
            ),
        },
    ),
    "get_response": RouteDocumentation(
        tag="Responses",
        summary="Get a response",
        description="Returns the response as it is now; with `stream`, its events until it ends.",
        parameters=(
            make_query_parameter("stream", "`true` returns server-sent events."),
            make_query_parameter(
                "starting_after", "The `sequence_number` of the last event that you have.", {"type": "integer"}
            ),
            *INCLUDE_PARAMETERS,
            make_query_parameter("include_obfuscation", "Has no effect: events are not padded."),
        ),
        responses={200: MODEL_RESPONSE},
        errors=("response_not_found", "invalid_value", "unknown_parameter", "images_unavailable", "image_deleted"),
        examples={"default": ExampleRequest()},
    ),
    "cancel_response": RouteDocumentation(
        tag="Responses",
        summary="Cancel a response",
        description="Cancels the job of the response. Running orders cannot be cancelled: the job ends with what they "
        "deliver.",
        responses={200: MODEL_RESPONSE},
        errors=("response_not_found", "job_not_found", "job_ended", "images_unavailable", "image_deleted"),
        examples={},
    ),
    "list_input_items": RouteDocumentation(
        tag="Responses",
        summary="List the input of a response",
        description="One message: the prompt, and the images that were edited.",
        parameters=(
            make_query_parameter("after", "The id of the last item that you have."),
            make_query_parameter("limit", "Has no effect: there is one item."),
            make_query_parameter("order", "Has no effect: there is one item."),
            *INCLUDE_PARAMETERS,
        ),
        responses={200: ResponseDocumentation("The message.", InputItemListBody)},
        errors=("response_not_found", "unknown_parameter", "invalid_value", "image_deleted"),
        examples={"default": ExampleRequest()},
    ),
    "delete_response": RouteDocumentation(
        tag="Responses",
        summary="Delete a response",
        description="Deletes the images and all text of the response at once. The request may be repeated.",
        responses={200: ResponseDocumentation("The response is deleted.", DeletedResponseBody)},
        errors=("response_not_found", "job_running", "images_unavailable"),
        examples={},
    ),
}
