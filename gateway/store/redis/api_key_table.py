"""API keys and admin events of the store in Redis.

All of them are on one server of a Cluster. An event is a member of a sorted set whose members begin with their time.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.store.api_keys import (
    EMPTY_VERSION,
    AdminEventPage,
    ApiKeyChange,
    ApiKeyTable,
    decode_key_table,
    encode_event_time,
    parse_event_query,
)
from gateway.store.redis import scripts
from gateway.store.redis.codec import pack
from gateway.store.redis.keys import ADMIN_EVENTS, API_KEY_USES, API_KEY_VERSION, API_KEYS
from gateway.store.redis.redis_client import RedisClient


class RedisApiKeys:
    """Implements ApiKeyStore."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def load_table(self, known_version: str | None = None) -> ApiKeyTable | None:
        arguments = () if known_version is None else (known_version,)
        reply = await self._client.run_script(scripts.LOAD_API_KEYS, [API_KEYS, API_KEY_VERSION], *arguments)
        if reply is None:
            return None
        version, entries = reply
        return decode_key_table(version.decode() or EMPTY_VERSION, entries)

    async def change_table(self, change: ApiKeyChange) -> bool:
        event = change.event
        payload = {
            "expected_version": change.expected_version,
            "version": change.version,
            "keys": {key.id: _to_json(key) for key in change.keys},
            "deleted_ids": change.deleted_ids,
            "event": "" if event is None else f"{event.id} {_to_json(event)}",
        }
        script_keys = [API_KEYS, API_KEY_VERSION, API_KEY_USES, ADMIN_EVENTS]
        return bool(await self._client.run_script(scripts.CHANGE_API_KEYS, script_keys, pack(payload)))

    async def record_uses(self, used_at: Mapping[str, float]) -> None:
        await self._client.run_script(scripts.RECORD_API_KEY_USES, [API_KEYS, API_KEY_USES], pack(dict(used_at)))

    async def load_uses(self) -> Mapping[str, float]:
        fields = await self._client.execute("HGETALL", API_KEY_USES)
        pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
        return {key_id.decode(): float(used_at) for key_id, used_at in pairs}

    async def list_events(self, limit: int = 100, cursor: str | None = None) -> AdminEventPage:
        query = parse_event_query(limit, cursor)
        upper_bound = "+" if query.last_id is None else f"({query.last_id}"
        members = await self._client.execute(
            "ZREVRANGEBYLEX", ADMIN_EVENTS, upper_bound, "-", "LIMIT", 0, query.row_count
        )
        return query.decode_page(member.partition(b" ")[2] for member in members)

    async def delete_events_before(self, timestamp: float) -> None:
        await self._client.execute("ZREMRANGEBYLEX", ADMIN_EVENTS, "-", f"({encode_event_time(timestamp)}")


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
