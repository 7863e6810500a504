"""Stores, finds and deletes the files of teams."""

from msgspec.structs import replace

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.batches.deleted_records import delete_record
from gateway.api.batches.file_content import FILE_CHUNK_BYTES, ChunkWriter
from gateway.api.batches.file_records import UPLOAD_TTL_SECONDS, FileRecord, decode_file
from gateway.assets.backend import ImageData
from gateway.assets.object_keys import make_object_prefix
from gateway.store.team_records import RecordKind, TeamRecord, encode_record

# An upload needs no lease: nothing else writes to its file.
UPLOAD_FENCE = 0


def make_file_not_found_error() -> ApiError:
    message = "File not found. It may have expired, been deleted, or belong to another team; GET /v1/files lists yours."
    return ApiError(404, "file_not_found", message)


async def get_team_file(context: ApiContext, team: str, file_id: str) -> FileRecord:
    """Returns the team's file. Raises ApiError (404) if it does not exist, has expired, or belongs to another team."""
    if (file := await find_team_file(context, team, file_id)) is None:
        raise make_file_not_found_error()
    return file


async def find_team_file(context: ApiContext, team: str, file_id: str) -> FileRecord | None:
    record = await context.store.team_records.load(file_id)
    if record is not None and record.kind is RecordKind.FILE and record.team == team:
        file = decode_file(record)
        if file.is_complete and file.expires_at > context.wall_clock():
            return file
    return None


async def store_file(context: ApiContext, file: FileRecord, data: ImageData) -> FileRecord:
    """Stores a new file. Its record is saved first: if this process crashes, the cleanup deletes the chunks."""
    await _save(context, file, UPLOAD_TTL_SECONDS)
    writer = ChunkWriter(context.storage, file.id, UPLOAD_FENCE)
    for offset in range(0, len(data), FILE_CHUNK_BYTES):
        await writer.write(bytes(data[offset : offset + FILE_CHUNK_BYTES]))
    await writer.flush()
    stored = replace(file, version=1, size_bytes=writer.size_bytes, chunks=(writer.run,), is_complete=True)
    await save_file(context, stored)
    return stored


async def save_file(context: ApiContext, file: FileRecord) -> bool:
    """Saves the next version of the record, due at its expiry. Returns False if the stored record has changed."""
    return await _save(context, file, max(0.0, file.expires_at - context.wall_clock()))


async def _save(context: ApiContext, file: FileRecord, due_in_seconds: float) -> bool:
    return await context.store.team_records.save(encode_record(RecordKind.FILE, file), due_in_seconds)


async def extend_file(context: ApiContext, file: FileRecord, expires_at: float) -> None:
    """Postpones the expiry of the file to `expires_at`, unless it is later already."""
    while file.expires_at < expires_at and not await save_file(context, replace(file, expires_at=expires_at)):
        file = await get_team_file(context, file.team, file.id)


async def delete_file(context: ApiContext, file: FileRecord | TeamRecord) -> None:
    """Deletes a file: its content first, which only its record leads to."""
    await delete_file_content(context, file.id)
    await delete_record(context, file)


async def delete_file_content(context: ApiContext, file_id: str) -> None:
    await context.storage.delete_prefix(make_object_prefix(file_id))


async def delete_expired_files(context: ApiContext) -> None:
    while records := await context.store.team_records.list_due(RecordKind.FILE):
        for record in records:
            await delete_file(context, record)
