"""Loads a request's input images: decodes inline ones, downloads linked ones, validates all."""

import asyncio
import io
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from gateway.api.api_errors import ApiError
from gateway.api.file_upload_receiver import UploadedFile
from gateway.api.json_limit_scan import LongText
from gateway.api.parameter_table import InputImageParams, InputImageRef, InputImageValue
from gateway.api.request_parser_thread import run_off_loop
from gateway.assets.backend import ImageData
from gateway.assets.image_data_check import check_image_data
from gateway.assets.image_header import (
    EmptyImage,
    InvalidImage,
    TooManyPixels,
    UnsupportedFormat,
    is_complete,
    read_header,
)
from gateway.engine.job_creation import InputImage
from gateway.upstream.download import DownloadError
from gateway.upstream.input_fetcher import FetchLimitReached, InputsTooLarge, RequestInputs
from providers.orders import Format

MAX_INPUT_IMAGES = 16
BLANKS = " \t\r\n"
# For each request: its URLs often point to the same host.
MAX_PARALLEL_DOWNLOADS = 4
DOWNLOAD_RETRY_SECONDS = 5


class InputImages(Struct, frozen=True):
    """The input images and the mask of an edit."""

    inputs: tuple[InputImage, ...] = ()
    mask: InputImage | None = None


def list_input_refs(params: InputImageParams) -> list[tuple[str, InputImageRef]]:
    """Lists the input images with their parameter's name, without the mask."""
    values = [entry for name, refs in params.named_inputs for entry in _name_refs(name, refs)]
    if len(values) > MAX_INPUT_IMAGES:
        message = f"Too many input images: {len(values)}. Send at most {MAX_INPUT_IMAGES}."
        raise ApiError(400, "invalid_value", message, param="image")
    refs = [(name, InputImageRef(image_url=ref) if isinstance(ref, str) else ref) for name, ref in values]
    for name, ref in refs:
        if (ref.image_url is None) == (ref.b64_json is None):
            message = f"'{name}' must have either image_url or b64_json."
            raise ApiError(400, "invalid_value", message, param=name)
    return refs


def _name_refs(name: str, refs: InputImageValue | tuple[InputImageValue, ...]) -> Iterator[tuple[str, InputImageValue]]:
    """Yields each image of a parameter with its name: `image`, or `image[1]` if there are several."""
    if not isinstance(refs, tuple):
        yield name, refs
    elif len(refs) == 1:
        yield name, refs[0]
    else:
        yield from ((f"{name}[{index}]", ref) for index, ref in enumerate(refs))


def get_mask_ref(params: InputImageParams) -> InputImageRef | None:
    return InputImageRef(image_url=params.mask) if isinstance(params.mask, str) else params.mask


async def load_input_images(
    fetcher: RequestInputs, image_refs: Sequence[tuple[str, InputImageRef]], mask: InputImageRef | None
) -> InputImages:
    """Loads all images and the mask concurrently. Raises ApiError for the first invalid parameter and cancels the other
    downloads."""
    refs = [*image_refs, ("mask", mask)] if mask else list(image_refs)
    download_slots = asyncio.Semaphore(MAX_PARALLEL_DOWNLOADS)
    tasks = [asyncio.create_task(_load_image(fetcher, download_slots, param, ref)) for param, ref in refs]
    try:
        images = await asyncio.gather(*tasks)
    finally:
        await _cancel_tasks(tasks)
    await _check_data(refs, images)
    input_images = InputImages(tuple(images[: len(image_refs)]), images[-1] if mask else None)
    _validate_mask(input_images)
    return input_images


async def _check_data(refs: Sequence[tuple[str, InputImageRef]], images: Sequence[InputImage]) -> None:
    """Checks one image after the other, so that the images of other requests are checked in between."""
    for (param, _), image in zip(refs, images, strict=True):
        try:
            await check_image_data(image.data, image.header)
        except InvalidImage as error:
            raise _invalid_image_error(error, param) from None


async def _cancel_tasks(tasks: list[asyncio.Task[InputImage]]) -> None:
    """Cancels the tasks, and waits until they have released their memory.

    Clears the list: the traceback of an error refers to it, and a task that refers to the error would keep the images
    in memory until the next garbage collection.
    """
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()


async def _load_image(
    fetcher: RequestInputs, download_slots: asyncio.Semaphore, param: str, ref: InputImageRef
) -> InputImage:
    if isinstance(file := ref.image_url, UploadedFile):
        return await run_off_loop(len(file.data), _parse_image, file.data, param, fetcher.max_image_bytes)
    if (base64_text := ref.inline_base64) is not None:
        return await run_off_loop(len(base64_text), _decode_inline_image, base64_text, param, fetcher.max_image_bytes)
    if not ref.is_url:
        message = (
            f"Invalid image in '{param}': send a file of a form, an https:// URL, a data URI "
            f'(data:image/png;base64,…), or base64 as {{"b64_json": …}}.'
        )
        raise ApiError(400, "invalid_image", message, param=param)
    async with download_slots:
        data = await _fetch_image(fetcher, ref.image_url or "", param)
    return await run_off_loop(len(data), _parse_image, data, param, fetcher.max_image_bytes)


async def _fetch_image(fetcher: RequestInputs, url: str, param: str) -> bytes:
    try:
        return await fetcher.fetch(url)
    except DownloadError as error:
        reason = f": {error.public_reason}" if error.public_reason else ""
        message = (
            f"The image URL in '{param}' could not be downloaded{reason}. Use a public https:// URL, or send the image."
        )
        raise ApiError(400, "invalid_image_url", message, param=param) from None
    except InputsTooLarge as error:
        message = f"The linked images are larger than {error.max_bytes >> 20} MiB together. Send smaller images."
        raise ApiError(413, "image_too_large", message, param=param) from None
    except FetchLimitReached as refusal:
        subject = "your team has" if refusal.is_own else "all teams together have"
        message = (
            f"Too many downloads of input images: {subject} {refusal.limit} in progress. "
            f"Retry in {DOWNLOAD_RETRY_SECONDS} seconds."
        )
        status = 429 if refusal.is_own else 503
        raise ApiError(status, "too_many_downloads", message, param=param, retry_after=DOWNLOAD_RETRY_SECONDS) from None


def _parse_image(data: ImageData, param: str, max_bytes: int) -> InputImage:
    """Validates the image. Only its bytes count: the media type that the client sent is ignored."""
    if len(data) > max_bytes:
        message = f"The image in '{param}' is larger than {max_bytes >> 20} MiB. Scale or compress it."
        raise ApiError(413, "image_too_large", message, param=param)
    try:
        header = read_header(data)
        if not is_complete(data, header):
            raise InvalidImage("the image is truncated")
        if header.frames > 1:
            raise InvalidImage(f"an animated {header.format} with {header.frames:,} frames; send a still image")
    except InvalidImage as error:
        raise _invalid_image_error(error, param) from None
    return InputImage(data, header)


def _invalid_image_error(error: InvalidImage, param: str) -> ApiError:
    code = {
        EmptyImage: "empty_image_file",
        UnsupportedFormat: "unsupported_image_media_type",
        TooManyPixels: "image_too_large",
    }.get(type(error), "invalid_image")
    return ApiError(400, code, f"Invalid image in '{param}': {error}.", param=param)


def _validate_mask(input_images: InputImages) -> None:
    """Rejects masks that sellers refuse or misread, before anything is ordered."""
    if input_images.mask is None or not input_images.inputs:
        return
    mask, first = input_images.mask.header, input_images.inputs[0].header
    if mask.format is not Format.PNG or not mask.has_alpha:
        message = "The mask must be a PNG with an alpha channel, transparent where the image is to be edited."
        raise ApiError(400, "invalid_image_mode", message, param="mask")
    if (mask.width, mask.height) != (first.width, first.height):
        message = (
            f"The mask is {mask.width}x{mask.height}, the first input image {first.width}x{first.height}. Send a mask "
            "of the same size."
        )
        raise ApiError(400, "invalid_image", message, param="mask")


def _decode_inline_image(text: str, param: str, max_bytes: int) -> InputImage:
    """Decodes base64, with or without a data URI prefix."""
    pieces = text.iterate_pieces() if isinstance(text, LongText) else iter((text,))
    try:
        data = decode_base64(_strip_data_uri_prefix(pieces))
    except ValueError:
        message = f"'{param}' is not valid base64. Encode the bytes of the image, with the padding."
        raise ApiError(400, "invalid_base64_image", message, param=param) from None
    return _parse_image(data, param, max_bytes)


def _strip_data_uri_prefix(pieces: Iterator[str]) -> Iterator[str]:
    first_piece = next(pieces, "").lstrip()
    yield first_piece.partition(",")[2] if first_piece[:5].lower() == "data:" else first_piece
    yield from pieces


def decode_base64(pieces: Iterable[str]) -> bytes:
    """Decodes base64 that arrives in pieces, four characters at a time. Raises ValueError if the whole is invalid.

    Ignores blanks and line breaks, which MIME encoders insert.
    """
    decoded, remainder, is_over = io.BytesIO(), "", False
    for piece in pieces:
        text = remainder + _remove_blanks(piece)
        decodable_length = len(text) - len(text) % 4
        remainder = text[decodable_length:]
        if is_over and text:
            raise ValueError("data after the padding")
        decoded.write(a2b_base64(text[:decodable_length], strict_mode=True) if decodable_length else b"")
        is_over = text.endswith("=", 0, decodable_length)
    if remainder:
        raise ValueError("truncated")
    return decoded.getvalue()


def _remove_blanks(piece: str) -> str:
    for blank in BLANKS:
        piece = piece.replace(blank, "")
    return piece
