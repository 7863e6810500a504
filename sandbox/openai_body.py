"""The bodies OpenAI accepts: JSON, and for edits a form or JSON with links. Declared types are not believed."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import State, UploadFile
from litestar.exceptions import ClientException

from sandbox import openai_fields, pictures
from sandbox.openai_errors import RefusedError, invalid
from sandbox.pictures import NotAPictureError, Source
from sandbox.sources import Sources, UnreadableError

HttpRequest = Request[object, object, State]
# Bytes that are fetched only when the rest of the request has proved sound.
Part = Callable[[], Awaitable[bytes]]

MAX_IMAGES = 16
MAX_IMAGE_BYTES = 50 << 20
MAX_LINK_CHARACTERS = 20_971_520
MAX_BODY_BYTES = (MAX_IMAGES + 1) * MAX_IMAGE_BYTES + (1 << 20)
SIGNATURES = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)
IMAGE_PART = re.compile(r"image(\[\d*\])?")


@dataclass(slots=True)
class EditBody:
    """`param` is what this kind of body calls its pictures."""

    param: str
    fields: dict[str, Any] = field(default_factory=dict)
    images: list[Part] = field(default_factory=list)
    mask: Part | None = None


async def json_fields(request: HttpRequest) -> dict[str, Any]:
    kind = request.content_type[0]
    if kind != "application/json":
        raise RefusedError(415, "unsupported_content_type", f"Expected application/json, but got '{kind}'.")
    try:
        body = msgspec.json.decode(await request.body())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, None, f"We could not parse the JSON body of your request: {error}") from error
    if not isinstance(body, dict):
        raise RefusedError(400, None, "The JSON body of your request must be an object.")
    return body


async def edit_body(request: HttpRequest, outside: Sources) -> EditBody:
    if request.content_type[0] == "multipart/form-data":
        return await _form_body(request)
    return _json_body(await json_fields(request), outside)


async def _form_body(request: HttpRequest) -> EditBody:
    try:
        form = await request.form()
    except (ClientException, UnicodeDecodeError, LookupError) as error:
        raise RefusedError(400, None, "We could not parse the multipart form of your request.") from error
    body = EditBody("image")
    for name, value in form.multi_items():
        if IMAGE_PART.fullmatch(name):
            body.images.append(_file_part("image", value))
        elif name == "mask":
            body.mask = _file_part("mask", value)
        else:
            # A nested field such as svg[model] is refused or checked under its first name.
            outer = name.partition("[")[0]
            body.fields[outer] = openai_fields.from_form(outer, value) if isinstance(value, str) else value
    return body


def _file_part(param: str, value: object) -> Part:
    if not isinstance(value, UploadFile):
        raise invalid(param, f"Invalid type for '{param}': expected a file, but got a string.", "invalid_type")
    return lambda: value.read(MAX_IMAGE_BYTES + 1)


def _json_body(fields: dict[str, Any], outside: Sources) -> EditBody:
    body = EditBody("images")
    images, mask = fields.pop("images", None), fields.pop("mask", None)
    if images is not None and not isinstance(images, list):
        raise invalid("images", "Invalid type for 'images': expected an array.", "invalid_type")
    body.fields = fields
    body.images = [_link_part(f"images[{index}]", image, outside) for index, image in enumerate(images or ())]
    body.mask = None if mask is None else _link_part("mask", mask, outside)
    return body


def _link_part(param: str, link: object, outside: Sources) -> Part:
    value = _address(param, link)
    if value.startswith("data:"):
        return lambda: _from_data_url(param, value)
    if value.startswith(("http://", "https://")):
        return lambda: _download(param, value, outside)
    raise invalid(param, f"'{param}' is neither an http(s) URL nor a data URL.", "invalid_image_url")


def _address(param: str, link: object) -> str:
    given = {name: value for name, value in link.items() if value is not None} if isinstance(link, dict) else {}
    if len(given) != 1 or not isinstance(value := next(iter(given.values())), str):
        raise invalid(param, f"'{param}' must have exactly one of 'image_url' and 'file_id'.")
    if "file_id" in given:
        raise invalid(param, f"No file '{value}': the sandbox keeps no files.", "image_file_not_found")
    if "image_url" not in given:
        raise invalid(param, f"Unknown parameter: '{param}.{next(iter(given))}'.", "unknown_parameter")
    if len(value) > MAX_LINK_CHARACTERS:
        raise invalid(param, f"'{param}' is longer than {MAX_LINK_CHARACTERS} characters.", "string_above_max_length")
    return value


async def _from_data_url(param: str, url: str) -> bytes:
    try:
        return pictures.from_data_uri(url)
    except NotAPictureError as error:
        raise invalid(param, str(error), "invalid_base64_image") from error


async def _download(param: str, url: str, outside: Sources) -> bytes:
    try:
        return await outside.data(url)
    except UnreadableError as error:
        raise invalid(param, f"Failed to download the image: {error}.", "failed_to_download_image") from error


async def sources(body: EditBody) -> list[Source]:
    """Every picture looked at, the mask held against the first one."""
    if not body.images:
        raise invalid(body.param, f"Missing required parameter: '{body.param}'.", "missing_required_parameter")
    if len(body.images) > MAX_IMAGES:
        message = f"Invalid '{body.param}': expected at most {MAX_IMAGES} images, but got {len(body.images)}."
        raise invalid(body.param, message, "array_above_max_length")
    # One after another, so that sixteen big pictures are never in memory at once.
    found = [await _source(body.param, part) for part in body.images]
    if body.mask is not None:
        _check_mask(await _source("mask", body.mask), found[0])
    return found


async def _source(param: str, part: Part) -> Source:
    data = await part()
    if not data:
        raise invalid(param, "The image file is empty.", "empty_image_file")
    if len(data) > MAX_IMAGE_BYTES:
        raise invalid(param, f"An image must be smaller than {MAX_IMAGE_BYTES >> 20} MB.", "image_file_too_large")
    if not SIGNATURES.match(data):
        raise invalid(param, "Only png, jpeg and webp images are supported.", "invalid_image_format")
    try:
        return await asyncio.to_thread(pictures.read, data)
    except NotAPictureError as error:
        raise invalid(param, str(error), "image_parse_error") from error


def _check_mask(mask: Source, first: Source) -> None:
    if mask.format != "png":
        raise invalid("mask", "The mask must be a PNG.", "invalid_image_format")
    if not mask.alpha:
        raise invalid("mask", "The mask must have an alpha channel.", "invalid_image_mode")
    if (mask.width, mask.height) != (first.width, first.height):
        message = f"The mask is {mask.width}x{mask.height}, the first image is {first.width}x{first.height}."
        raise invalid("mask", message, "invalid_image")
