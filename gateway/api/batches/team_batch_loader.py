"""Finds the batches of teams."""

from collections.abc import AsyncIterator

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.batches.batch_records import Batch, decode_batch
from gateway.store.team_records import MAX_PAGE_RECORDS, RecordKind, RecordPosition


def make_batch_not_found_error() -> ApiError:
    message = "Batch not found. It may have been deleted, or belong to another team; GET /v1/batches lists yours."
    return ApiError(404, "batch_not_found", message)


async def get_team_batch(context: ApiContext, team: str, batch_id: str) -> Batch:
    """Returns the team's batch. Raises ApiError (404) if it does not exist or belongs to another team."""
    record = await context.store.team_records.load(batch_id)
    if record is None or record.kind is not RecordKind.BATCH or record.team != team:
        raise make_batch_not_found_error()
    return decode_batch(record)


async def iterate_open_batches(context: ApiContext, team: str) -> AsyncIterator[Batch]:
    """Yields the team's batches that have not ended, the newest first."""
    position: RecordPosition | None = None
    # A batch may be open for longer than its completion window: until its last orders have ended.
    oldest = context.wall_clock() - 2 * context.timing.api.batch_window_seconds
    while records := await context.store.team_records.list_records(RecordKind.BATCH, team, MAX_PAGE_RECORDS, position):
        for record in records:
            if record.created_at < oldest:
                return
            if not (batch := decode_batch(record)).status.has_ended:
                yield batch
        position = records[-1].position


async def find_open_batch_of_file(context: ApiContext, team: str, file_id: str) -> Batch | None:
    async for batch in iterate_open_batches(context, team):
        if batch.input_file_id == file_id:
            return batch
    return None
