"""Submits parsed requests for images: loads the input images of edits, and creates the job."""

from typing import Any

from msgspec.structs import replace

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.earlier_images import load_earlier_images
from gateway.api.incoming_body_limiter import get_incoming_body
from gateway.api.input_images import get_mask_ref, list_input_refs, load_input_images
from gateway.api.job_submission import JobRequest, SubmittedJob, find_existing_job, submit_or_reuse_job
from gateway.api.parameter_table import InputImageParams


async def submit_image_request(http_request: HttpRequest, job_request: JobRequest[Any]) -> SubmittedJob:
    """Returns the job of an equal, earlier request, or creates one."""
    context, state = get_context(http_request), http_request.scope["state"]
    existing = await find_existing_job(context, job_request)
    if existing is None and isinstance(job_request.params, InputImageParams):
        return await _submit_with_inputs(http_request, job_request)
    return await submit_or_reuse_job(context, state, job_request, existing)


async def _submit_with_inputs(http_request: HttpRequest, job_request: JobRequest[InputImageParams]) -> SubmittedJob:
    context, state, params = get_context(http_request), http_request.scope["state"], job_request.params
    image_refs, earlier_bytes = await load_earlier_images(http_request, list_input_refs(params))
    mask = get_mask_ref(params)
    with context.input_fetcher.open_request(job_request.team) as fetcher:
        input_images = await load_input_images(fetcher, image_refs, mask)
        state["fetch_seconds"] = fetcher.fetch_seconds
        decoded_bytes = sum(
            len(input_image.data)
            for (_, ref), input_image in zip(image_refs, input_images.inputs, strict=True)
            if ref.inline_base64 is not None
        )
        await get_incoming_body(state).reserve(earlier_bytes + decoded_bytes)
        return await submit_or_reuse_job(context, state, replace(job_request, input_images=input_images))
