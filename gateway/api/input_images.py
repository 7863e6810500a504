"""Input images of a request: sent with it, or fetched from the links that it names."""

import asyncio
from collections.abc import Sequence

from gateway.api import request_schemas as wishing
from gateway.api.api_errors import ApiError
from gateway.api.body_parser_thread import run_off_loop
from gateway.api.request_schemas import InputImageRef, InputImages
from gateway.engine.job_creation import InputImage
from gateway.upstream.download import DownloadError
from gateway.upstream.input_fetcher import FetchLimitReached, InputsTooLarge, RequestInputs

# Of one request: what the first of its links comes to often holds for all.
MAX_PARALLEL_DOWNLOADS = 4
DOWNLOAD_RETRY_SECONDS = 5


async def load_input_images(
    fetcher: RequestInputs, image_refs: Sequence[tuple[str, InputImageRef]], mask: InputImageRef | None
) -> InputImages:
    """Fetched or decoded, and looked at. The first that is none ends it: ApiError names its parameter, also of a mask
    that does not fit."""
    refs = [*image_refs, ("mask", mask)] if mask else list(image_refs)
    download_slots = asyncio.Semaphore(MAX_PARALLEL_DOWNLOADS)
    tasks = [asyncio.create_task(_load_image(fetcher, download_slots, param, ref)) for param, ref in refs]
    try:
        images = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        # Until what was given up is over, and holds nothing any more.
        await asyncio.gather(*tasks, return_exceptions=True)
    input_images = InputImages(tuple(images[: len(image_refs)]), images[-1] if mask else None)
    wishing.validate_mask(input_images)
    return input_images


async def _load_image(
    fetcher: RequestInputs, download_slots: asyncio.Semaphore, param: str, ref: InputImageRef
) -> InputImage:
    if (base64_text := ref.inline_base64) is not None:
        return await run_off_loop(len(base64_text), wishing.decode_inline_image, base64_text, param)
    if not ref.is_url:
        message = (
            f"'{param}' holds neither an address nor an image that is known here: send an https:// address, a data URI "
            f'(data:image/png;base64,…), or base64 as {{"b64_json": …}}.'
        )
        raise ApiError(400, "invalid_image", message, param=param)
    async with download_slots:
        data = await _fetch_image(fetcher, ref.image_url or "", param)
    return await run_off_loop(len(data), wishing.parse_input_image, data, param)


async def _fetch_image(fetcher: RequestInputs, url: str, param: str) -> bytes:
    try:
        return await fetcher.fetch(url)
    except DownloadError as error:
        reason = f": {error.public_reason}" if error.public_reason else ""
        message = f"The image in '{param}' could not be fetched from its address{reason}."
        raise ApiError(400, "invalid_image_url", message, param=param) from None
    except InputsTooLarge as error:
        message = f"The images that this request links to have more than {error.max_bytes >> 20} MiB together."
        raise ApiError(413, "image_too_large", message, param=param) from None
    except FetchLimitReached as refusal:
        subject = "Your team has" if refusal.is_own else "All teams together have"
        message = (
            f"{subject} {refusal.limit} in progress, which is the limit. Nothing was ordered or charged: retry in "
            f"{DOWNLOAD_RETRY_SECONDS} s."
        )
        status = 429 if refusal.is_own else 503
        raise ApiError(status, "too_many_downloads", message, param=param, retry_after=DOWNLOAD_RETRY_SECONDS) from None
