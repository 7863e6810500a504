"""Parsing of OpenAI's request bodies: JSON, and for edits a form or JSON with URLs. Ignores declared media types."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar.datastructures import UploadFile
from litestar.exceptions import ClientException

from sandbox import image_renderer
from sandbox.http_requests import HttpRequest
from sandbox.image_renderer import InvalidImageError, SourceImage
from sandbox.openai import field_checks
from sandbox.openai.errors import OpenaiError, invalid_param_error
from sandbox.source_fetcher import SourceFetcher, SourceUnreadableError

# Fetches bytes, only after the rest of the request has been validated.
ImageLoader = Callable[[], Awaitable[bytes]]

MAX_IMAGES = 16
MAX_IMAGE_BYTES = 50 << 20
MAX_URL_CHARACTERS = 20_971_520
MAX_BODY_BYTES = (MAX_IMAGES + 1) * MAX_IMAGE_BYTES + (1 << 20)
FORMAT_SIGNATURES = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)
IMAGE_FIELD_NAME = re.compile(r"image(\[\d*\])?")


@dataclass(slots=True)
class EditBody:
    """A parsed edit. `param` is the name of the image field in this kind of body."""

    param: str
    fields: dict[str, Any] = field(default_factory=dict)
    image_loaders: list[ImageLoader] = field(default_factory=list)
    mask_loader: ImageLoader | None = None


async def parse_json_fields(request: HttpRequest) -> dict[str, Any]:
    media_type = request.content_type[0]
    if media_type != "application/json":
        raise OpenaiError(415, "unsupported_content_type", f"Expected application/json, but got '{media_type}'.")
    try:
        body = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OpenaiError(400, None, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(body, dict):
        raise OpenaiError(400, None, "The JSON body of your request must be an object.")
    return body


async def parse_edit_body(request: HttpRequest, fetcher: SourceFetcher) -> EditBody:
    if request.content_type[0] == "multipart/form-data":
        return await _parse_form(request)
    return _parse_json_edit(await parse_json_fields(request), fetcher)


async def _parse_form(request: HttpRequest) -> EditBody:
    try:
        form = await request.form()
    except (ClientException, UnicodeDecodeError, LookupError) as error:
        raise OpenaiError(400, None, "We could not parse the multipart form of your request.") from error
    body = EditBody("image")
    for name, value in form.multi_items():
        if IMAGE_FIELD_NAME.fullmatch(name):
            body.image_loaders.append(_make_file_loader("image", value))
        elif name == "mask":
            body.mask_loader = _make_file_loader("mask", value)
        else:
            # A nested field such as svg[model] is checked or rejected under its first name.
            outer_name = name.partition("[")[0]
            body.fields[outer_name] = (
                field_checks.parse_form_value(outer_name, value) if isinstance(value, str) else value
            )
    return body


def _make_file_loader(param: str, value: object) -> ImageLoader:
    if not isinstance(value, UploadFile):
        raise invalid_param_error(
            param, f"Invalid type for '{param}': expected a file, but got a string.", "invalid_type"
        )
    return lambda: value.read(MAX_IMAGE_BYTES + 1)


def _parse_json_edit(fields: dict[str, Any], fetcher: SourceFetcher) -> EditBody:
    body = EditBody("images")
    images, mask = fields.pop("images", None), fields.pop("mask", None)
    if images is not None and not isinstance(images, list):
        raise invalid_param_error("images", "Invalid type for 'images': expected an array.", "invalid_type")
    body.fields = fields
    body.image_loaders = [
        _make_url_loader(f"images[{index}]", image, fetcher) for index, image in enumerate(images or ())
    ]
    body.mask_loader = None if mask is None else _make_url_loader("mask", mask, fetcher)
    return body


def _make_url_loader(param: str, reference: object, fetcher: SourceFetcher) -> ImageLoader:
    url = _parse_image_url(param, reference)
    if url.startswith("data:"):
        return lambda: _decode_data_url(param, url)
    if url.startswith(("http://", "https://")):
        return lambda: _download_image(param, url, fetcher)
    raise invalid_param_error(param, f"'{param}' is neither an http(s) URL nor a data URL.", "invalid_image_url")


def _parse_image_url(param: str, reference: object) -> str:
    members = (
        {name: value for name, value in reference.items() if value is not None} if isinstance(reference, dict) else {}
    )
    if len(members) != 1 or not isinstance(value := next(iter(members.values())), str):
        raise invalid_param_error(param, f"'{param}' must have exactly one of 'image_url' and 'file_id'.")
    if "file_id" in members:
        raise invalid_param_error(
            param, f"File '{value}' not found: the sandbox does not store files.", "image_file_not_found"
        )
    if "image_url" not in members:
        raise invalid_param_error(param, f"Unknown parameter: '{param}.{next(iter(members))}'.", "unknown_parameter")
    if len(value) > MAX_URL_CHARACTERS:
        raise invalid_param_error(
            param, f"'{param}' is longer than {MAX_URL_CHARACTERS} characters.", "string_above_max_length"
        )
    return value


async def _decode_data_url(param: str, url: str) -> bytes:
    try:
        return image_renderer.decode_data_uri(url)
    except InvalidImageError as error:
        raise invalid_param_error(param, str(error), "invalid_base64_image") from error


async def _download_image(param: str, url: str, fetcher: SourceFetcher) -> bytes:
    try:
        return await fetcher.fetch_bytes(url)
    except SourceUnreadableError as error:
        raise invalid_param_error(
            param, f"Failed to download the image: {error}.", "failed_to_download_image"
        ) from error


async def load_source_images(body: EditBody) -> list[SourceImage]:
    """Loads and decodes all images, and compares the mask with the first one."""
    if not body.image_loaders:
        raise invalid_param_error(
            body.param, f"Missing required parameter: '{body.param}'.", "missing_required_parameter"
        )
    if len(body.image_loaders) > MAX_IMAGES:
        message = f"Invalid '{body.param}': expected at most {MAX_IMAGES} images, but got {len(body.image_loaders)}."
        raise invalid_param_error(body.param, message, "array_above_max_length")
    # One after another, so that sixteen large images are never in memory together.
    images = [await _load_source_image(body.param, loader) for loader in body.image_loaders]
    if body.mask_loader is not None:
        _check_mask(await _load_source_image("mask", body.mask_loader), images[0])
    return images


async def _load_source_image(param: str, loader: ImageLoader) -> SourceImage:
    data = await loader()
    if not data:
        raise invalid_param_error(param, "The image file is empty.", "empty_image_file")
    if len(data) > MAX_IMAGE_BYTES:
        raise invalid_param_error(
            param, f"An image must be smaller than {MAX_IMAGE_BYTES >> 20} MB.", "image_file_too_large"
        )
    if not FORMAT_SIGNATURES.match(data):
        raise invalid_param_error(param, "Only png, jpeg and webp images are supported.", "invalid_image_format")
    try:
        return await asyncio.to_thread(image_renderer.read_image, data)
    except InvalidImageError as error:
        raise invalid_param_error(param, str(error), "image_parse_error") from error


def _check_mask(mask: SourceImage, first_image: SourceImage) -> None:
    if mask.format != "png":
        raise invalid_param_error("mask", "The mask must be a PNG.", "invalid_image_format")
    if not mask.has_alpha:
        raise invalid_param_error("mask", "The mask must have an alpha channel.", "invalid_image_mode")
    if (mask.width, mask.height) != (first_image.width, first_image.height):
        message = (
            f"The mask is {mask.width}x{mask.height}, the first image is {first_image.width}x{first_image.height}."
        )
        raise invalid_param_error("mask", message, "invalid_image")
