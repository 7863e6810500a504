"""API keys as a store keeps them: without their secrets, and with the events of what admins did."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.config.schema import RateLimits
from gateway.jobs.budgets import NO_BUDGET_LIMITS, BudgetLimits

MAX_LISTED_EVENTS = 1_000
# A store without keys has this version.
EMPTY_VERSION = ""


class Scope(StrEnum):
    """A permission of an API key. Each route requires one scope, or is public."""

    GENERATE = "generate"
    READ = "read"
    ADMIN = "admin"


class ApiKey(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key. `digests`: keyed digests of the whole key, the newest first; the key itself is never stored.

    `team`: None for an admin key. `policies`: those that it may request, of its team's; None for all of them.
    `expires_at`: also of a key that was rotated, and still works for a while. `lifetime_seconds`: how long it was to
    work when an admin last said so, and how long its successor works; None if it does not expire, UNSET if it was
    created before this was saved. `replaces`: the key that it replaces. `first_id`: of the first key in this line of
    rotations; None for that key itself.
    """

    id: str
    name: str
    team: str | None
    scopes: tuple[Scope, ...]
    digests: tuple[str, ...]
    created_at: float
    expires_at: float | None = None
    lifetime_seconds: float | UnsetType | None = UNSET
    revoked_at: float | None = None
    policies: tuple[str, ...] | None = None
    limits: RateLimits = RateLimits()
    budget: BudgetLimits = NO_BUDGET_LIMITS
    replaces: str | None = None
    first_id: str | None = None

    @property
    def limits_id(self) -> str:
        """The id under which its rate limits and its budget are counted: a key and its successors share them."""
        return self.first_id or self.id

    def get_status(self, now: float) -> str:
        """Returns active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class AdminEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One action of an admin. It never contains a secret.

    `id`: sorts by time. `actor`: the id of the admin's key, or the user of the command line. `source`: the address of
    the client, or the host of the command line. `key_id`, `team`: of the key that was changed.
    """

    id: str
    at: float
    action: str
    actor: str
    source: str
    key_id: str | None = None
    team: str | None = None
    details: dict[str, Any] = {}


class AdminEventPage(Struct, frozen=True):
    """A page of events, the newest first. `next_cursor` is None on the last page."""

    events: tuple[AdminEvent, ...]
    next_cursor: str | None


class ApiKeyTable(Struct, frozen=True):
    """All API keys, and the version that each change replaces."""

    version: str
    keys: tuple[ApiKey, ...]


class ApiKeyChange(Struct, frozen=True, kw_only=True):
    """A change of the table. It is made only if the table still has `expected_version`, together with its event."""

    expected_version: str
    version: str
    keys: tuple[ApiKey, ...] = ()
    deleted_ids: tuple[str, ...] = ()
    event: AdminEvent | None = None


_key_decoder = msgspec.json.Decoder(ApiKey)
_event_decoder = msgspec.json.Decoder(AdminEvent)


class ApiKeyStore(Protocol):
    """Stores API keys and admin events. Every call may raise StoreUnavailable."""

    async def load_table(self, known_version: str | None = None) -> ApiKeyTable | None:
        """Returns all keys; None if the table still has the known version."""

    async def change_table(self, change: ApiKeyChange) -> bool:
        """Makes the change as a whole, also if there is no room for new jobs. Returns False, and changes nothing, if
        the table has another version than expected."""

    async def record_uses(self, used_at: Mapping[str, float]) -> None:
        """Records when keys were last used. An earlier time than the recorded one changes nothing."""

    async def load_uses(self) -> Mapping[str, float]:
        """Returns when each key was last used. Keys that were never used are missing."""

    async def list_events(self, limit: int = 100, cursor: str | None = None) -> AdminEventPage:
        """Lists admin events, the newest first. Raises ValueError if the cursor is invalid."""


def make_table_version(draw_bytes: Callable[[int], bytes]) -> str:
    """Makes a version at random: if a table is lost and filled again, its version differs from the former one."""
    return draw_bytes(8).hex()


def make_event_id(at: float, random_hex: str) -> str:
    """Makes an id that sorts by time."""
    return f"{encode_event_time(at)}{random_hex}"


def encode_event_time(at: float) -> str:
    """Encodes a time as the beginning of the ids of its events."""
    return f"evt_{int(at * 1_000_000):016x}"


class AdminEventQuery(Struct, frozen=True):
    """A page of events to load: those before `last_id`, or the newest if it is None.

    A store reads `row_count` events, one more than the page has: it shows whether there is another page.
    """

    last_id: str | None
    page_size: int

    @property
    def row_count(self) -> int:
        return self.page_size + 1

    def make_page(self, events: Sequence[AdminEvent]) -> AdminEventPage:
        page = tuple(events[: self.page_size])
        return AdminEventPage(page, page[-1].id if len(events) > self.page_size else None)

    def decode_page(self, entries: Iterable[bytes]) -> AdminEventPage:
        """Makes the page from stored events."""
        return self.make_page([_event_decoder.decode(entry) for entry in entries])


def parse_event_query(limit: int, cursor: str | None) -> AdminEventQuery:
    """Raises ValueError if the cursor is not the one of a page."""
    if cursor is None or re.fullmatch(r"evt_[0-9a-f]{16,40}", cursor, re.ASCII):
        return AdminEventQuery(cursor, max(1, min(MAX_LISTED_EVENTS, limit)))
    raise ValueError("Invalid cursor. Use the one from the previous page.")


def decode_key_table(version: str, entries: Iterable[bytes]) -> ApiKeyTable:
    """Makes the table from stored keys, in the order of their ids."""
    keys = sorted((_key_decoder.decode(entry) for entry in entries), key=lambda key: key.id)
    return ApiKeyTable(version, tuple(keys))


def format_time(timestamp: float | None) -> str | None:
    """Formats a time as RFC 3339, in UTC."""
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")
