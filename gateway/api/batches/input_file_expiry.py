"""Lets the input file of a batch expire once no batch needs it: its prompts are kept no longer than those of jobs."""

from msgspec.structs import replace

from gateway.api.api_context import ApiContext
from gateway.api.batches.batch_records import Batch, BatchStatus
from gateway.api.batches.file_library import delete_file, find_team_file, save_file
from gateway.api.batches.team_batch_loader import iterate_open_batches


async def expire_input_file(context: ApiContext, batch: Batch) -> None:
    """Brings the expiry of the input file forward to `input_ttl_seconds` from now, and deletes it at once if these are
    0. Safe to repeat. If another batch reads the file, the end of that one does it."""
    expires_at = context.wall_clock() + batch.input_ttl_seconds
    while (file := await find_team_file(context, batch.team, batch.input_file_id)) and file.expires_at > expires_at:
        if await _is_read_by_another(context, batch):
            return
        changed = replace(file, expires_at=expires_at)
        if await save_file(context, changed) and not batch.input_ttl_seconds:
            await delete_file(context, changed)


async def _is_read_by_another(context: ApiContext, batch: Batch) -> bool:
    async for other in iterate_open_batches(context, batch.team):
        is_reading = other.id != batch.id and other.status is not BatchStatus.FINALIZING
        if is_reading and other.input_file_id == batch.input_file_id:
            return True
    return False
