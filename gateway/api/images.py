"""OpenAI's Images API: any of its clients may ask here. It answers when the images are there, never before."""

import asyncio

from litestar import Response, post

from gateway.api import counter
from gateway.api.asking import Asked, answer, asked, replayed, tools_of, waited
from gateway.api.errors import ApiError
from gateway.api.failures import failure_error
from gateway.api.shown import headers_of, images_shown
from gateway.api.wishes import Generation
from gateway.jobs.job import Job

# Longer than any job: what outlives its deadline is pictures that exist and are on their way.
UNTIL_THE_END = 3_600.0


@post("/v1/images/generations", status_code=200)
async def generations(request: Asked) -> Response[bytes]:
    """Draw images from a prompt."""
    tools = tools_of(request)
    wanted, wishes = await asked(request, Generation)
    taken = await counter.taken_before(tools, wanted) or await counter.take(tools, wanted)
    job = await waited(request, taken.job, UNTIL_THE_END)
    headers = headers_of(job) | replayed(taken.replayed)
    if not job.delivered or not job.state.is_terminal:
        raise _without_images(job, headers, tools.draining())
    pictures = await counter.pictures_there(tools, job)
    shown = pictures if wishes.response_format == "b64_json" else []
    data = await asyncio.gather(*(counter.content_of(tools, one) for one in shown))
    contents = {one.index: content for one, content in zip(shown, data, strict=True)}
    return answer(images_shown(job, pictures, contents, tools.links, tools.now()), 200, headers)


def _without_images(job: Job, headers: dict[str, str], draining: bool) -> ApiError:
    if draining and not job.state.is_terminal:
        # An SDK's own retry is tied to the running job, and finds it wherever it goes on.
        message = (
            "This gateway is shutting down. The job goes on: ask again, or GET /v1/jobs/{id}, id as in x-igw-job-id."
        )
        return ApiError(503, "draining", message, retry_after=1, headers=headers)
    if not job.state.is_terminal:
        message = (
            "The images take longer than this request can wait. The job goes on: GET /v1/jobs/{id}, id as in "
            "x-igw-job-id."
        )
        return ApiError(424, "still_running", message, headers=headers)
    return failure_error(job, headers)
