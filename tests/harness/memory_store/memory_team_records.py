"""Files and batches of teams of a store in memory."""

from collections.abc import Callable, Iterable
from typing import Any

from gateway.store.team_records import RecordKind, RecordPosition, TeamRecord


class MemoryTeamRecordTable:
    """The shared data: records and their due times, by id."""

    def __init__(self) -> None:
        self.records: dict[str, TeamRecord] = {}
        self.due_at: dict[str, float] = {}

    def save(self, record: TeamRecord, due_at: float | None) -> bool:
        stored = self.records.get(record.id)
        if (stored.version if stored else 0) != record.version - 1:
            return False
        self.records[record.id] = record
        self.due_at.pop(record.id, None)
        if due_at is not None:
            self.due_at[record.id] = due_at
        return True

    def delete(self, record_id: str) -> None:
        self.records.pop(record_id, None)
        self.due_at.pop(record_id, None)

    def list_after(
        self, kind: RecordKind, team: str, after: RecordPosition | None, oldest_first: bool
    ) -> tuple[TeamRecord, ...]:
        records = self._select(kind, (record for record in self.records.values() if record.team == team))
        in_order = sorted(records, key=lambda record: record.position, reverse=not oldest_first)
        return tuple(
            record
            for record in in_order
            if after is None or (record.position > after if oldest_first else record.position < after)
        )

    def list_due(self, kind: RecordKind, limit: int, now: float) -> tuple[TeamRecord, ...]:
        due_ids = sorted((due_at, record_id) for record_id, due_at in self.due_at.items() if due_at <= now)
        return tuple(self._select(kind, (self.records[record_id] for _, record_id in due_ids)))[:limit]

    def _select(self, kind: RecordKind, records: Iterable[TeamRecord]) -> list[TeamRecord]:
        return [record for record in records if record.kind is kind]


class MemoryTeamRecords:
    """Implements TeamRecordStore for one replica. `run`: runs an effect as one step of the store."""

    def __init__(self, table: MemoryTeamRecordTable, run: Callable[..., Any]) -> None:
        self._table, self._run = table, run

    async def save(self, record: TeamRecord, due_in_seconds: float | None) -> bool:
        def save_record(now: float) -> bool:
            return self._table.save(record, None if due_in_seconds is None else now + due_in_seconds)

        return bool(await self._run("save_team_record", (record, due_in_seconds), save_record))

    async def load(self, record_id: str) -> TeamRecord | None:
        record: TeamRecord | None = await self._run(
            "load_team_record", (record_id,), lambda _: self._table.records.get(record_id)
        )
        return record

    async def delete(self, record_id: str) -> None:
        await self._run("delete_team_record", (record_id,), lambda _: self._table.delete(record_id))

    async def list_records(
        self, kind: RecordKind, team: str, limit: int, after: RecordPosition | None = None, oldest_first: bool = False
    ) -> tuple[TeamRecord, ...]:
        page: tuple[TeamRecord, ...] = await self._run(
            "list_team_records",
            (kind, team, limit, after, oldest_first),
            lambda _: self._table.list_after(kind, team, after, oldest_first)[:limit],
        )
        return page

    async def list_due(self, kind: RecordKind, limit: int = 100) -> tuple[TeamRecord, ...]:
        records: tuple[TeamRecord, ...] = await self._run(
            "list_due_team_records", (kind, limit), lambda now: self._table.list_due(kind, limit, now)
        )
        return records
