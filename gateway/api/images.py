"""OpenAI's Images API: any of its clients may ask here. It answers when the images are there, never before."""

import asyncio

from litestar import Response, post

from gateway.api import counter
from gateway.api.asking import Asked, answer, asked, mark_answered, replayed, take_once, tools_of, waited
from gateway.api.errors import ApiError
from gateway.api.failures import failure_error
from gateway.api.interruption import LEAVING_SECONDS, interruption_error
from gateway.api.shown import headers_of, images_shown
from gateway.api.wishes import Generation
from gateway.assets.shelf import Missing

# Longer than any job: what outlives its deadline is pictures that exist and are on their way.
UNTIL_THE_END = 3_600.0


# OpenAI's own path, those of Azure (classic and v1), and the one without a version that some base URLs lead to.
PATHS = [
    "/v1/images/generations",
    "/openai/deployments/{deployment:str}/images/generations",
    "/openai/v1/images/generations",
    "/images/generations",
]


@post(PATHS, status_code=200)
async def generations(request: Asked) -> Response[bytes]:
    """Draw images from a prompt."""
    tools = tools_of(request)
    wanted, wishes = await asked(request, Generation)
    taken = await take_once(request, wanted, await counter.taken_before(tools, wanted))
    job = await waited(request, taken.job, UNTIL_THE_END)
    headers = headers_of(job) | replayed(taken.replayed)
    if not job.state.is_terminal:
        raise _still_running(request, headers)
    if not job.delivered:
        mark_answered(request)
        raise failure_error(job, headers)
    pictures = await counter.pictures_there(tools, job)
    if not pictures:
        raise Missing(f"what is known of the images of {job.id} is gone")
    # Clients of DALL-E that name no format read links by its default, and some of them base64.
    form = wishes.response_format or ("both" if wanted.is_dalle else "b64_json")
    shown = pictures if form != "url" else []
    data = await asyncio.gather(*(counter.content_of(tools, one) for one in shown))
    contents = {one.index: content for one, content in zip(shown, data, strict=True)}
    links = None if form == "b64_json" else tools.links
    mark_answered(request)
    return answer(images_shown(job, pictures, contents, links, tools.now()), 200, headers)


def _still_running(request: Asked, headers: dict[str, str]) -> ApiError:
    if tools_of(request).draining():
        return interruption_error(request.scope, "draining", "This gateway is shutting down.", LEAVING_SECONDS)
    message = (
        "The images take longer than this request can wait. The job goes on: GET /v1/jobs/{id}, id as in x-igw-job-id."
    )
    return ApiError(424, "still_running", message, headers=headers)
