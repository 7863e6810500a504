"""Input images of a request: sent with it, or fetched from the links that it names."""

import asyncio
from collections.abc import Sequence

from gateway.api import wishes as wishing
from gateway.api.body_thread import run_off_loop
from gateway.api.errors import ApiError
from gateway.api.wishes import InputWish, Pictures
from gateway.engine.accepting import Given
from gateway.upstream.download import DownloadError
from gateway.upstream.input_fetcher import FetchRefused, InputsTooLarge, RequestInputs

# Of one request: what the first of its links comes to often holds for all.
LINKS_AT_ONCE = 4
RETRY_SECONDS = 5


async def load_input_images(
    inputs: RequestInputs, named: Sequence[tuple[str, InputWish]], mask: InputWish | None
) -> Pictures:
    """Fetched or decoded, and looked at. The first that is none ends it: ApiError names its parameter, also of a mask
    that does not fit."""
    wishes = [*named, ("mask", mask)] if mask else list(named)
    slots = asyncio.Semaphore(LINKS_AT_ONCE)
    loading = [asyncio.create_task(_load(inputs, slots, param, wish)) for param, wish in wishes]
    try:
        images = await asyncio.gather(*loading)
    finally:
        for task in loading:
            task.cancel()
        # Until what was given up is over, and holds nothing any more.
        await asyncio.gather(*loading, return_exceptions=True)
    pictures = Pictures(tuple(images[: len(named)]), images[-1] if mask else None)
    wishing.require_fitting_mask(pictures)
    return pictures


async def _load(inputs: RequestInputs, slots: asyncio.Semaphore, param: str, wish: InputWish) -> Given:
    if (text := wish.inline) is not None:
        return await run_off_loop(len(text), wishing.inline_picture, text, param)
    if not wish.is_address:
        message = (
            f"'{param}' holds neither an address nor an image that is known here: send an https:// address, a data URI "
            f'(data:image/png;base64,…), or base64 as {{"b64_json": …}}.'
        )
        raise ApiError(400, "invalid_image", message, param=param)
    async with slots:
        data = await _fetch(inputs, wish.image_url or "", param)
    return await run_off_loop(len(data), wishing.given_picture, data, param)


async def _fetch(inputs: RequestInputs, address: str, param: str) -> bytes:
    try:
        return await inputs.fetch(address)
    except DownloadError as error:
        why = f": {error.public_reason}" if error.public_reason else ""
        message = f"The image in '{param}' could not be fetched from its address{why}."
        raise ApiError(400, "invalid_image_url", message, param=param) from None
    except InputsTooLarge as error:
        message = f"The images that this request links to have more than {error.max_bytes >> 20} MiB together."
        raise ApiError(413, "image_too_large", message, param=param) from None
    except FetchRefused as refused:
        whose = "Your team has" if refused.is_own else "All teams together have"
        message = (
            f"{whose} {refused.limit} in progress, which is the limit. Nothing was ordered or charged: retry in "
            f"{RETRY_SECONDS} s."
        )
        status = 429 if refused.is_own else 503
        raise ApiError(status, "too_many_downloads", message, param=param, retry_after=RETRY_SECONDS) from None
