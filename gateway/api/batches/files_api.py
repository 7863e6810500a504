"""OpenAI's Files API, for the files of batches: upload, list, get, download, delete."""

from typing import Any

from litestar import Response, delete, get, post
from litestar.response import Stream
from msgspec import Struct

from gateway.api.access_control import GENERATE, READ
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.batches.batch_request_types import ExpiresAfter
from gateway.api.batches.file_content import FileContent
from gateway.api.batches.file_library import delete_file, get_team_file, store_file
from gateway.api.batches.file_records import DEFAULT_TTL_SECONDS, INPUT_PURPOSE, OUTPUT_PURPOSE, FileRecord, decode_file
from gateway.api.batches.record_listing import list_team_records
from gateway.api.batches.team_batch_loader import find_open_batch_of_file
from gateway.api.bracketed_form_decoder import parse_form_fields
from gateway.api.file_upload_receiver import UploadedFile
from gateway.api.form_reader import FORM_MEDIA_TYPE, is_form, read_form
from gateway.api.incoming_body_limiter import get_incoming_body
from gateway.api.json_responses import json_response
from gateway.api.parameter_value_coercion import read_integer
from gateway.api.request_body_reader import limit_body, to_struct
from gateway.api.request_lifecycle import get_image_streams, get_response_memory
from gateway.assets.backend import CHUNK_BYTES, ImageData
from gateway.store.base import DAY_SECONDS
from gateway.store.partitions import FILE, new_resource_id
from gateway.store.team_records import RecordKind

FILE_PREFIXES = ("/v1/files", "/openai/v1/files")
_ONE_FILE = [f"{prefix}/{{file_id:str}}" for prefix in FILE_PREFIXES]
MAX_FILE_BYTES = 200 << 20
# Besides the file, a form has its boundaries and a few short texts.
MAX_FORM_BYTES = MAX_FILE_BYTES + (1 << 20)
MAX_FILENAME_LENGTH = 255
_PURPOSES = (INPUT_PURPOSE, OUTPUT_PURPOSE)


class UploadFields(Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of an upload, besides the file."""

    purpose: str
    file: str
    expires_after: ExpiresAfter | None = None


@post(list(FILE_PREFIXES), status_code=200, opt=GENERATE)
async def upload_file(request: HttpRequest) -> Response[bytes]:
    """Uploads a file with the lines of a batch."""
    context, team = get_context(request), get_team(request)
    fields, data, filename = await _read_upload(request)
    if context.is_draining():
        raise ApiError(503, "draining", "This gateway is shutting down. Retry in 1 second.", retry_after=1)
    now = context.wall_clock()
    ttl_seconds = fields.expires_after.seconds if fields.expires_after else DEFAULT_TTL_SECONDS
    # A batch is to be created meanwhile. Until its end, it extends this time.
    max_ttl_seconds = DAY_SECONDS + context.catalogue().get_file_retention(team).prompt_seconds
    file = FileRecord(
        id=new_resource_id(FILE, team, context.engine.context.draw_bytes, context.wall_clock),
        team=team,
        created_at=now,
        expires_at=now + min(ttl_seconds, max_ttl_seconds),
        filename=filename,
        purpose=fields.purpose,
    )
    return json_response(serialize_file(await store_file(context, file, data)), 200, {})


async def _read_upload(request: HttpRequest) -> tuple[UploadFields, ImageData, str]:
    """Reads the form. A large file lies on the disk until it is stored."""
    headers = request.headers
    if not is_form(headers.get("content-type", "")):
        message = f"Unsupported Content-Type: send the file in a form as {FORM_MEDIA_TYPE}."
        raise ApiError(415, "unsupported_media_type", message)
    chunks = limit_body(request.stream(), headers.get("content-length"), MAX_FORM_BYTES)
    parts = await read_form(chunks, headers["content-type"], get_incoming_body(request.scope["state"]), ("file",))
    values = parse_form_fields((part.name, part.value) for part in parts)
    if isinstance(expires_after := values.get("expires_after"), dict) and "seconds" in expires_after:
        expires_after["seconds"] = read_integer(expires_after["seconds"])
    fields = to_struct(values, UploadFields)
    data = _validate_upload(fields)
    filename = next((part.file_name for part in parts if part.name == "file"), "")
    return fields, data, filename[:MAX_FILENAME_LENGTH]


def _validate_upload(fields: UploadFields) -> ImageData:
    """Returns the bytes of the file. Raises ApiError if a field is invalid."""
    if fields.purpose != INPUT_PURPOSE:
        message = f"Invalid value for 'purpose': must be {INPUT_PURPOSE}; this gateway stores only files of batches."
        raise ApiError(400, "invalid_value", message, param="purpose")
    if not isinstance(fields.file, UploadedFile):
        message = "Invalid value for 'file': must be a file, not text. Send the part with a file name."
        raise ApiError(400, "invalid_value", message, param="file")
    if len(fields.file.data) > MAX_FILE_BYTES:
        message = f"The file is larger than {MAX_FILE_BYTES >> 20} MiB. Split it into several files."
        raise ApiError(413, "file_too_large", message, param="file")
    return fields.file.data


@get(list(FILE_PREFIXES), opt=READ)
async def list_files(request: HttpRequest) -> Response[bytes]:
    """Lists the team's files, the newest first."""
    return json_response(await list_team_records(request, RecordKind.FILE, _serialize_listed_file, "purpose"), 200, {})


def _serialize_listed_file(record: Any, filters: dict[str, list[str]]) -> dict[str, Any] | None:
    file = decode_file(record)
    purposes = filters["purpose"]
    if not file.is_complete or (purposes and file.purpose not in purposes):
        return None
    return serialize_file(file)


@get(_ONE_FILE, opt=READ)
async def get_file(request: HttpRequest, file_id: str) -> Response[bytes]:
    """Returns the description of a file."""
    file = await get_team_file(get_context(request), get_team(request), file_id)
    return json_response(serialize_file(file), 200, {})


@get([f"{path}/content" for path in _ONE_FILE], opt=READ)
async def download_file(request: HttpRequest, file_id: str) -> Response[Any]:
    """Streams the content of a file."""
    context = get_context(request)
    file = await get_team_file(context, get_team(request), file_id)
    await get_response_memory(request.scope["state"]).grow_to(CHUNK_BYTES * 2 + context.storage.stream_buffer_bytes)
    content = FileContent(context.storage, file)
    get_image_streams(request.scope["state"]).append(content)
    headers = {
        "content-length": str(file.size_bytes),
        "content-disposition": "attachment",
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    return Stream(content.read(), media_type="application/octet-stream", headers=headers)


@delete(_ONE_FILE, status_code=200, opt=GENERATE)
async def delete_team_file(request: HttpRequest, file_id: str) -> Response[bytes]:
    """Deletes a file at once, unless a batch still reads it."""
    context, team = get_context(request), get_team(request)
    file = await get_team_file(context, team, file_id)
    if (batch := await find_open_batch_of_file(context, team, file.id)) is not None:
        message = f"The file is in use by {batch.id}. Cancel the batch, or wait for its end."
        raise ApiError(409, "file_in_use", message)
    await delete_file(context, file)
    return json_response({"id": file.id, "object": "file", "deleted": True}, 200, {})


def serialize_file(file: FileRecord) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at),
        "expires_at": int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }
