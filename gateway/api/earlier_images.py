"""Images of earlier jobs as input images of a new one."""

from collections.abc import Sequence

from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.file_upload_receiver import UploadedFile
from gateway.api.incoming_body_limiter import get_incoming_body
from gateway.api.parameter_table import InputImageRef
from gateway.api.team_job_loader import find_team_job, load_stored_images
from gateway.engine.job_documents import StoredImage

NamedRef = tuple[str, InputImageRef]
RUNNING_RETRY_SECONDS = 2


class EarlierImages(str):
    """A reference to the images of an earlier job: to the one with `image_index`, or to all.

    It is the client's text as a `str`, so that the parameters can hold it in place of an image URL. `job_id`: None if
    the text is not an id.
    """

    __slots__ = ("image_index", "job_id", "param")
    job_id: str | None
    image_index: int | None
    param: str

    @classmethod
    def from_job_id(cls, name: str, job_id: str | None, image_index: int | None, param: str) -> "EarlierImages":
        images = cls(name)
        images.job_id, images.image_index, images.param = job_id, image_index, param
        return images


async def load_earlier_images(request: HttpRequest, refs: Sequence[NamedRef]) -> tuple[list[NamedRef], int]:
    """Replaces references to earlier images by the images. Returns them with their size in bytes.

    Raises ApiError if they do not exist, belong to another team, or are not complete yet.
    """
    context, loaded_refs, size_bytes = get_context(request), list[NamedRef](), 0
    for name, ref in refs:
        if not isinstance(earlier := ref.image_url, EarlierImages):
            loaded_refs.append((name, ref))
            continue
        images = await _find_images(context, get_team(request), earlier)
        size_bytes += sum(image.bytes for image in images)
        await get_incoming_body(request.scope["state"]).reserve(size_bytes)
        loaded_refs += [(earlier.param, await _load_image(context, image)) for image in images]
    return loaded_refs, size_bytes


async def _load_image(context: ApiContext, image: StoredImage) -> InputImageRef:
    return InputImageRef(image_url=UploadedFile.from_data(await context.storage.get(image.key), image.sha256))


async def _find_images(context: ApiContext, team: str, earlier: EarlierImages) -> list[StoredImage]:
    job = None if earlier.job_id is None else await find_team_job(context, team, earlier.job_id)
    if job is None:
        message = f"'{earlier[:60]}' not found. It may have been deleted, or belong to another team; send the image."
        raise ApiError(400, "previous_response_not_found", message, param=earlier.param)
    if not job.state.is_terminal:
        message = f"'{earlier[:60]}' is not complete yet. Retry when it has ended."
        raise ApiError(409, "job_running", message, param=earlier.param, retry_after=RUNNING_RETRY_SECONDS)
    images = [image for image in await load_stored_images(context, job) if earlier.image_index in (None, image.index)]
    if not images:
        message = f"'{earlier[:60]}' has no image: the job delivered none. Send another image."
        raise ApiError(400, "image_not_found", message, param=earlier.param)
    return images
