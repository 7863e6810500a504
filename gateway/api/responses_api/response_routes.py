"""OpenAI's Responses API: create a response, get it or its events, cancel it, delete it."""

from typing import Any

from litestar import Response, delete, get, post
from msgspec import Struct
from msgspec.structs import replace

from gateway.api.access_control import GENERATE, READ
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.base64_image_output import build_response_with_images, open_base64_images
from gateway.api.completed_job_images import load_images_of_ended_job
from gateway.api.image_request_submission import submit_image_request
from gateway.api.job_deletion import delete_team_job
from gateway.api.job_result_event_stream import stream_job_result
from gateway.api.job_submission import SubmittedJob
from gateway.api.job_wait import confirm_job, wait_for_job
from gateway.api.jobs import cancel_team_job
from gateway.api.json_responses import build_job_headers, build_poll_headers, build_replay_headers, json_response
from gateway.api.parameter_value_coercion import read_boolean
from gateway.api.query_params import read_query_params
from gateway.api.request_parsing import parse_request
from gateway.api.responses_api.response_events import ResponseEvents
from gateway.api.responses_api.response_ids import parse_response_id
from gateway.api.responses_api.response_serializer import (
    ResponseView,
    serialize_input_item,
    serialize_input_items,
    serialize_response,
)
from gateway.api.responses_api.response_translation import ResponseParams
from gateway.api.serializers import URL_TTL_SECONDS
from gateway.api.team_job_loader import describe_retention, find_team_job, load_saved_request, load_stored_images
from gateway.jobs.job import Job

_PATH_PREFIXES = ("/v1/responses", "/openai/v1/responses", "/responses")
RESPONSE_PATHS = [f"{prefix}/{{response_id:str}}" for prefix in _PATH_PREFIXES]
INPUT_ITEM_PATHS = [f"{path}/input_items" for path in RESPONSE_PATHS]
# As OpenAI's SDKs write the list of what to include. Everything is always included.
INCLUDE = ("include", "include[]")
CANCEL_PATHS = [f"{path}/cancel" for path in RESPONSE_PATHS]


class SubmittedResponse(Struct, frozen=True, kw_only=True):
    """The job of a request, and the form of its response. `safety_identifier`: the client's own id of the end user."""

    job: SubmittedJob
    is_streamed: bool
    is_background: bool
    safety_identifier: str | None


@post(list(_PATH_PREFIXES), status_code=200, opt=GENERATE)
async def create_response(request: HttpRequest) -> Response[Any]:
    """Generates or edits images with the tool `image_generation`."""
    submitted = await _submit_response(request)
    job_id, headers = submitted.job.job_id, build_replay_headers(submitted.job.is_replayed)
    if submitted.is_streamed:
        job = await wait_for_job(request, job_id, 0.0)
        view = await _load_view(request, job, submitted.safety_identifier)
        events = ResponseEvents(request, view, headers)
        return await stream_job_result(request, job_id, events, is_held=not submitted.is_background)
    timeout_seconds = 0.0 if submitted.is_background else get_context(request).timing.api.job_wait_timeout_seconds
    job = await wait_for_job(request, job_id, timeout_seconds)
    if submitted.is_background:
        return await _respond_with_job(request, await confirm_job(request, job), headers, submitted.safety_identifier)
    images = await load_images_of_ended_job(request, job, build_job_headers(job) | headers)
    view = replace(await _load_view(request, job, submitted.safety_identifier), images=images)
    return await _respond_with_view(request, view, headers)


async def _submit_response(request: HttpRequest) -> SubmittedResponse:
    """Submits the job. A separate function, so that the body is freed before the request waits."""
    job_request = await parse_request(get_context(request), request, ResponseParams)
    params = job_request.params
    return SubmittedResponse(
        job=await submit_image_request(request, job_request),
        is_streamed=params.stream,
        is_background=params.is_background,
        safety_identifier=params.safety_identifier or params.user,
    )


@get(RESPONSE_PATHS, opt=READ)
async def get_response(request: HttpRequest, response_id: str) -> Response[Any]:
    """Returns the response; with `?stream=true`, its events after the one that `starting_after` names."""
    params = read_query_params(request, "stream", "starting_after", *INCLUDE, "include_obfuscation", repeatable=INCLUDE)
    job = await _find_response_job(request, response_id)
    if read_boolean((params["stream"] or ["false"])[-1]) is not True:
        return await _respond_with_job(request, job, {})
    events = ResponseEvents(request, await _load_view(request, job), {}, _parse_position(params["starting_after"]))
    return await stream_job_result(request, job.id, events, is_held=False)


@post(CANCEL_PATHS, status_code=200, opt=GENERATE)
async def cancel_response(request: HttpRequest, response_id: str) -> Response[Any]:
    """Cancels the response's job. Running orders cannot be cancelled: the job ends with what they deliver."""
    job = await _find_response_job(request, response_id)
    return await _respond_with_job(request, await cancel_team_job(request, job.id), {})


@get(INPUT_ITEM_PATHS, opt=READ)
async def list_input_items(request: HttpRequest, response_id: str) -> Response[bytes]:
    """Lists the input of the response: one message with the prompt and the input images, as signed URLs."""
    params = read_query_params(request, "after", "limit", "order", *INCLUDE, repeatable=INCLUDE)
    context, job = get_context(request), await _find_response_job(request, response_id)
    urls_expire_at = int(context.wall_clock()) + URL_TTL_SECONDS
    saved_request = await load_saved_request(context, job)
    item = serialize_input_item(job, saved_request, lambda key: context.url_signer.sign(key, urls_expire_at))
    return json_response(serialize_input_items([] if item["id"] in params["after"] else [item]), 200, {})


@delete(RESPONSE_PATHS, status_code=200, opt=GENERATE)
async def delete_response(request: HttpRequest, response_id: str) -> Response[bytes]:
    """Deletes the images and all text of the response's job. Safe to repeat."""
    job_id = parse_response_id(response_id)
    if job_id is None:
        raise _make_not_found_error()
    await delete_team_job(request, job_id, _make_not_found_error)
    return json_response({"id": response_id, "object": "response", "deleted": True}, 200, {})


async def _find_response_job(request: HttpRequest, response_id: str) -> Job:
    job_id = parse_response_id(response_id)
    job = await find_team_job(get_context(request), get_team(request), job_id) if job_id else None
    if job is None:
        raise _make_not_found_error()
    request.scope["state"]["job_id"] = job.id
    return job


def _make_not_found_error() -> ApiError:
    message = f"Response not found. Check its id; {describe_retention('responses')}"
    return ApiError(404, "response_not_found", message, param="response_id")


def _parse_position(values: list[str]) -> int:
    if not values:
        return -1
    if not (values[-1].isascii() and values[-1].isdigit()):
        message = "Invalid value for 'starting_after': must be the sequence_number of an event."
        raise ApiError(400, "invalid_value", message, param="starting_after")
    return int(values[-1][:9])


async def _load_view(request: HttpRequest, job: Job, safety_identifier: str | None = None) -> ResponseView:
    saved_request = await load_saved_request(get_context(request), job)
    return ResponseView(job=job, request=saved_request, safety_identifier=safety_identifier)


async def _respond_with_job(
    request: HttpRequest, job: Job, headers: dict[str, str], safety_identifier: str | None = None
) -> Response[Any]:
    """Responds with the job as it is. Its images are part of the response once it has ended."""
    images = await load_stored_images(get_context(request), job) if job.state.is_terminal else []
    return await _respond_with_view(
        request, replace(await _load_view(request, job, safety_identifier), images=images), headers
    )


async def _respond_with_view(request: HttpRequest, view: ResponseView, headers: dict[str, str]) -> Response[Any]:
    base64_images = await open_base64_images(request, view.images)
    body = serialize_response(replace(view, contents=base64_images.contents))
    poll_headers = build_poll_headers(view.job, get_context(request).wall_clock())
    headers = build_job_headers(view.job) | poll_headers | headers
    return build_response_with_images(request, body, base64_images.streams, headers)
