"""`GET /v1/jobs/{id}/images/{index}`: the bytes of a job's image, or a thumbnail of it."""

from typing import Any

from litestar import Response, get

from gateway.api.access_control import READ
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.image_download_responses import build_stored_image_response
from gateway.api.query_params import read_query_params
from gateway.api.team_job_loader import get_team_job, load_stored_images
from gateway.assets.storage import ObjectNotFound
from gateway.assets.thumbnails import WIDTHS
from gateway.engine.job_documents import StoredImage
from gateway.jobs.job import Job


@get("/v1/jobs/{job_id:str}/images/{index:str}", opt=READ)
async def get_job_image(request: HttpRequest, job_id: str, index: str) -> Response[Any]:
    """Returns the image. `?w=320` returns a WebP of that width; `?download=1` makes browsers save it as a file."""
    context = get_context(request)
    params = read_query_params(request, "w", "download")
    width = _parse_width(params["w"])
    job = await get_team_job(context, get_team(request), job_id)
    request.scope["state"]["job_id"] = job.id
    image = await _find_image(context, job, index)
    key = image.key
    if width is not None and width < image.width:
        key = await context.thumbnail_maker.make(image.key, width)
    headers = {"x-igw-job-id": job.id}
    if params["download"] and params["download"][-1] not in ("0", "false"):
        name = f"{job.id}-{image.index}.{key.rpartition('.')[2]}"
        headers["content-disposition"] = f'attachment; filename="{name}"'
    return await build_stored_image_response(request, key, headers)


def _parse_width(values: list[str]) -> int | None:
    if not values:
        return None
    if values[-1] not in [str(width) for width in WIDTHS]:
        message = f"Invalid value for 'w': must be one of {', '.join(map(str, WIDTHS))}."
        raise ApiError(400, "invalid_value", message, param="w")
    return int(values[-1])


async def _find_image(context: ApiContext, job: Job, index: str) -> StoredImage:
    delivered = [str(image) for image in job.delivered_images]
    if index not in delivered:
        message = f"Image not found: the job has delivered {len(delivered)} of {job.n} images. Read the job's 'images'."
        raise ApiError(404, "image_not_found", message)
    for image in await load_stored_images(context, job):
        if image.index == int(index):
            return image
    raise ObjectNotFound(f"an image document of {job.id} was deleted")
