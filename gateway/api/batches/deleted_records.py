"""Marks of deleted files and batches, so that a client may continue a list after one of them."""

from gateway.api.api_context import ApiContext
from gateway.store.base import DAY_SECONDS
from gateway.store.team_records import DELETED_PREFIX, RecordContent, RecordKind, TeamRecord, encode_record

# How long a list can be continued after a deleted entry.
MARK_TTL_SECONDS = DAY_SECONDS


async def delete_record(context: ApiContext, record: TeamRecord | RecordContent) -> None:
    """Deletes a record, and leaves a mark with its place in the list of its team. Safe to repeat."""
    mark = RecordContent(id=f"{DELETED_PREFIX}{record.id}", team=record.team, created_at=record.created_at)
    records = context.store.team_records
    await records.save(encode_record(RecordKind.DELETED, mark), MARK_TTL_SECONDS)
    await records.delete(record.id)


async def find_record_or_mark(context: ApiContext, kind: RecordKind, team: str, record_id: str) -> TeamRecord | None:
    """Returns the team's record, or the mark that it left. None if the team never had it, or its mark has expired."""
    records = context.store.team_records
    if not record_id.startswith(kind):
        return None
    for stored_id, stored_kind in ((record_id, kind), (f"{DELETED_PREFIX}{record_id}", RecordKind.DELETED)):
        record = await records.load(stored_id)
        if record is not None and (record.kind, record.team) == (stored_kind, team):
            return record
    return None


async def delete_expired_marks(context: ApiContext) -> None:
    records = context.store.team_records
    while marks := await records.list_due(RecordKind.DELETED):
        for mark in marks:
            await records.delete(mark.id)
