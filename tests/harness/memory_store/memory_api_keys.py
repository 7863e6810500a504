"""The API keys and admin events of a store in memory."""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.store.api_keys import (
    EMPTY_VERSION,
    AdminEvent,
    AdminEventPage,
    ApiKey,
    ApiKeyChange,
    ApiKeyTable,
    parse_event_query,
)


class MemoryApiKeyTable:
    """The shared data: keys by id, uses by id, and events by id."""

    def __init__(self) -> None:
        self.version = EMPTY_VERSION
        self.keys: dict[str, ApiKey] = {}
        self.used_at: dict[str, float] = {}
        self.events: dict[str, AdminEvent] = {}

    def load_table(self, known_version: str | None) -> ApiKeyTable | None:
        if self.version == known_version:
            return None
        return ApiKeyTable(self.version, tuple(key for _, key in sorted(self.keys.items())))

    def change(self, change: ApiKeyChange) -> bool:
        if self.version != change.expected_version:
            return False
        self.version = change.version
        self.keys |= {key.id: key for key in change.keys}
        for key_id in change.deleted_ids:
            self.keys.pop(key_id, None)
            self.used_at.pop(key_id, None)
        if change.event is not None:
            self.events[change.event.id] = change.event
        return True

    def record_uses(self, used_at: Mapping[str, float]) -> None:
        for key_id, at in used_at.items():
            if key_id in self.keys:
                self.used_at[key_id] = max(at, self.used_at.get(key_id, 0.0))

    def list_events(self, limit: int, cursor: str | None) -> AdminEventPage:
        query = parse_event_query(limit, cursor)
        ids = (event_id for event_id in self.events if query.last_id is None or event_id < query.last_id)
        newest = sorted(ids, reverse=True)[: query.row_count]
        return query.make_page([self.events[event_id] for event_id in newest])

    def delete_events_before(self, timestamp: float) -> None:
        self.events = {event_id: event for event_id, event in self.events.items() if event.at >= timestamp}


class MemoryApiKeys:
    """Implements ApiKeyStore for one replica. `run`: runs an effect as one step of the store."""

    def __init__(self, table: MemoryApiKeyTable, run: Callable[..., Any]) -> None:
        self._table, self._run = table, run

    async def load_table(self, known_version: str | None = None) -> ApiKeyTable | None:
        table: ApiKeyTable | None = await self._run(
            "load_api_keys", (known_version,), lambda _: self._table.load_table(known_version)
        )
        return table

    async def change_table(self, change: ApiKeyChange) -> bool:
        return bool(await self._run("change_api_keys", (change,), lambda _: self._table.change(change)))

    async def record_uses(self, used_at: Mapping[str, float]) -> None:
        uses = dict(used_at)
        await self._run("record_api_key_uses", (uses,), lambda _: self._table.record_uses(uses))

    async def load_uses(self) -> Mapping[str, float]:
        return dict(await self._run("load_api_key_uses", (), lambda _: dict(self._table.used_at)))

    async def list_events(self, limit: int = 100, cursor: str | None = None) -> AdminEventPage:
        page: AdminEventPage = await self._run(
            "list_admin_events", (limit, cursor), lambda _: self._table.list_events(limit, cursor)
        )
        return page
