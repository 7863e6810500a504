"""Files and batches of teams in the store in Redis. All of them are on one server of a Cluster."""

import asyncio
from collections.abc import Callable, Iterable

from gateway.store.redis import codec, scripts
from gateway.store.redis.keys import make_record_due_key, make_record_key, make_record_list_key
from gateway.store.redis.redis_client import RedisClient
from gateway.store.team_records import RecordKind, RecordPosition, TeamRecord, is_record_id

_FIELDS = ("kind", "team", "created_at", "version", "content")


class RedisTeamRecords:
    """Implements TeamRecordStore."""

    def __init__(self, client: RedisClient, get_settings: Callable[[], bytes]) -> None:
        self._client, self._get_settings = client, get_settings

    async def save(self, record: TeamRecord, due_in_seconds: float | None) -> bool:
        script = scripts.SAVE_NEW_TEAM_RECORD if record.version == 1 else scripts.SAVE_TEAM_RECORD
        payload = {
            "id": record.id,
            "kind": record.kind,
            "team": record.team,
            "created_at": repr(record.created_at),
            "version": record.version,
            "member": _make_list_member(record),
            "due_in_seconds": "" if due_in_seconds is None else repr(due_in_seconds),
        }
        arguments = (self._get_settings(), codec.pack(payload), record.content)
        return bool(await self._client.run_script(script, _list_keys(record), *arguments))

    async def load(self, record_id: str) -> TeamRecord | None:
        if not is_record_id(record_id):
            return None
        values = await self._client.read_fields(make_record_key(record_id), *_FIELDS)
        return None if values[0] is None else _decode_record(record_id, values)

    async def delete(self, record_id: str) -> None:
        if (record := await self.load(record_id)) is not None:
            arguments = (record.id, _make_list_member(record))
            await self._client.run_script(scripts.DELETE_TEAM_RECORD, _list_keys(record), *arguments)

    async def list_records(
        self, kind: RecordKind, team: str, limit: int, after: RecordPosition | None = None, oldest_first: bool = False
    ) -> tuple[TeamRecord, ...]:
        command, first, last = ("ZRANGEBYLEX", "-", "+") if oldest_first else ("ZREVRANGEBYLEX", "+", "-")
        if after is not None:
            first = f"({codec.format_list_member(after.created_at, after.id)}"
        members = await self._client.execute(command, make_record_list_key(kind, team), first, last, "LIMIT", 0, limit)
        return await self._load_all(member.decode().partition(":")[2] for member in members)

    async def list_due(self, kind: RecordKind, limit: int = 100) -> tuple[TeamRecord, ...]:
        arguments = (self._get_settings(), make_record_key(""), limit, *_FIELDS)
        reply = await self._client.run_script(scripts.LIST_DUE_RECORDS, [make_record_due_key(kind)], *arguments)
        return tuple(_decode_record(record_id.decode(), values) for record_id, values in reply if values[0] is not None)

    async def _load_all(self, record_ids: Iterable[str]) -> tuple[TeamRecord, ...]:
        records = await asyncio.gather(*(self.load(record_id) for record_id in record_ids))
        return tuple(record for record in records if record is not None)


def _list_keys(record: TeamRecord) -> list[str]:
    kind = record.kind
    return [make_record_key(record.id), make_record_list_key(kind, record.team), make_record_due_key(kind)]


def _make_list_member(record: TeamRecord) -> str:
    return codec.format_list_member(record.created_at, record.id)


def _decode_record(record_id: str, values: list[bytes]) -> TeamRecord:
    kind, team, created_at, version, content = values
    return TeamRecord(
        id=record_id,
        kind=RecordKind(kind.decode()),
        team=team.decode(),
        created_at=float(created_at),
        version=int(version),
        content=content,
    )
