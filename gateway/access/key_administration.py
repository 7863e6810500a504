"""Creates, changes, rotates and revokes API keys. Each action is saved together with an event that names its admin."""

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from gateway.access.key_changes import KeyChange, describe_changes
from gateway.access.key_tokens import NewToken, TokenDigester, make_token
from gateway.catalogue import Catalogue
from gateway.config.schema import RateLimits
from gateway.jobs.budgets import NO_BUDGET_LIMITS, BudgetLimits, serialize_limits
from gateway.store.api_keys import (
    AdminEvent,
    AdminEventPage,
    ApiKey,
    ApiKeyChange,
    ApiKeyStore,
    ApiKeyTable,
    Scope,
    format_time,
    make_event_id,
    make_table_version,
)
from gateway.store.base import StoreUnavailable
from gateway.suggestions import did_you_mean

DEFAULT_SCOPES = (Scope.GENERATE, Scope.READ)
MAX_NAME_LENGTH = 100
# How often a change is tried if other admins change keys at the same moment.
MAX_TRIES = 10
NO_BUDGET_WITHOUT_TEAM = "a key without a team cannot order, and has no budget"


class ApiKeyNotFound(Exception):
    """No API key has this id."""


class ApiKeyInactive(Exception):
    """The API key has expired or was revoked."""


class ApiKeyConfigured(Exception):
    """The API key is in the configuration, and is changed only there."""


class InvalidKeyOption(ValueError):
    """An option of an API key, budget override or target of webhooks is invalid. `option`: its name."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class Admin(Struct, frozen=True):
    """Who acts, for the event. `source`: the address of the client, or the host of the command line."""

    actor: str
    source: str


class EventMark(Struct, frozen=True):
    """The id and the time of an event that may be saved again after a crash."""

    id: str
    at: float


class CommonKeyOptions(Struct, frozen=True, kw_only=True):
    """The options of a new API key, without its lifetime."""

    team: str | None = None
    name: str = ""
    scopes: tuple[Scope, ...] = DEFAULT_SCOPES
    policies: tuple[str, ...] | None = None
    limits: RateLimits = RateLimits()


class KeyOptions(CommonKeyOptions, frozen=True, kw_only=True):
    """The options of a new API key. `lifetime_seconds`: None if it does not expire."""

    lifetime_seconds: float | None = None
    budget: BudgetLimits = NO_BUDGET_LIMITS


class CreatedKey(Struct, frozen=True):
    """A new API key. `token` is its secret form, which is returned once and stored nowhere."""

    key: ApiKey
    token: str

    def __repr__(self) -> str:
        return f"CreatedKey({self.key.id!r}, …)"


class ListedKey(Struct, frozen=True):
    """An API key and when it was last used, to within a minute or so."""

    key: ApiKey
    last_used_at: float | None


class _TableEdit(Struct, frozen=True):
    """The keys that an action changes, as they are after it, and its event. None: nothing changes."""

    keys: tuple[ApiKey, ...]
    event: AdminEvent | None


class KeyAdministration:
    """The actions of admins on API keys, with the configuration in force."""

    def __init__(
        self,
        store: ApiKeyStore,
        digester: TokenDigester,
        catalogue: Callable[[], Catalogue],
        wall_clock: Callable[[], float],
        draw_bytes: Callable[[int], bytes],
    ) -> None:
        self._store, self._digester, self._catalogue = store, digester, catalogue
        self._wall_clock, self._draw_bytes = wall_clock, draw_bytes

    # --- reading

    async def list_keys(self, team: str | None = None) -> tuple[ListedKey, ...]:
        """Lists the keys of a team, or all, the newest first."""
        table, uses = await self._load_table(), await self._store.load_uses()
        keys = sorted(table.keys, key=lambda key: (key.created_at, key.id), reverse=True)
        return tuple(ListedKey(key, uses.get(key.id)) for key in keys if team in (None, key.team))

    async def get_key(self, key_id: str) -> ListedKey:
        """Returns the key with this id. Raises ApiKeyNotFound."""
        table, uses = await self._load_table(), await self._store.load_uses()
        return ListedKey(_find_key(table, key_id), uses.get(key_id))

    async def list_events(self, limit: int, cursor: str | None) -> AdminEventPage:
        return await self._store.list_events(limit, cursor)

    # --- changes

    async def create_key(self, options: KeyOptions, admin: Admin) -> CreatedKey:
        """Creates a key. Raises InvalidKeyOption."""
        self._check_options(options)
        token, now = make_token(self._draw_bytes), self._wall_clock()
        expires_at = None if options.lifetime_seconds is None else now + options.lifetime_seconds
        key = ApiKey(
            id=token.id,
            name=options.name,
            team=options.team,
            scopes=options.scopes,
            digests=(self._digester.compute_digest(token.text),),
            created_at=now,
            expires_at=expires_at,
            lifetime_seconds=options.lifetime_seconds,
            policies=options.policies,
            limits=options.limits,
            budget=options.budget,
        )
        event = self._make_event("key_created", admin, key, _describe_key(key))
        await self._edit_table(lambda _: _TableEdit((key,), event))
        return CreatedKey(key, token.text)

    async def change_key(self, key_id: str, change: KeyChange, admin: Admin) -> bool:
        """Changes options of a key. Its budget and its limits change for all keys of its line of rotations. Returns
        False if it has all of them already.

        Raises ApiKeyNotFound, ApiKeyConfigured, ApiKeyInactive or InvalidKeyOption.
        """
        now = self._wall_clock()

        def change_options(table: ApiKeyTable) -> _TableEdit:
            before = _require_active(self._find_changeable_key(table, key_id), now)
            self._check_change(before, change)
            after = change.apply_to(before, now)
            if after == before:
                return _TableEdit((), None)
            line = [key for key in table.keys if key.limits_id == before.limits_id and key.id != key_id]
            event = self._make_event("key_changed", admin, after, describe_changes(before, after))
            return _TableEdit((after, *map(change.apply_to_line, line)), event)

        return (await self._edit_table(change_options)).event is not None

    async def rotate_key(self, key_id: str, overlap_seconds: float, admin: Admin) -> CreatedKey:
        """Creates a key that replaces another one, with the same options and lifetime. The other key still works for
        `overlap_seconds`.

        Raises ApiKeyNotFound, ApiKeyConfigured or ApiKeyInactive.
        """
        token, now = make_token(self._draw_bytes), self._wall_clock()

        def replace_key(table: ApiKeyTable) -> _TableEdit:
            old = _require_active(self._find_changeable_key(table, key_id), now)
            new = self._make_successor(old, token, now)
            old = replace(old, expires_at=_first_time(old.expires_at, now + overlap_seconds))
            details = {"new_key": new.id, "old_key_expires_at": format_time(old.expires_at)}
            return _TableEdit((new, old), self._make_event("key_rotated", admin, old, details))

        return CreatedKey((await self._edit_table(replace_key)).keys[0], token.text)

    def _make_successor(self, old: ApiKey, token: NewToken, now: float) -> ApiKey:
        return replace(
            old,
            id=token.id,
            digests=(self._digester.compute_digest(token.text),),
            created_at=now,
            expires_at=None if (seconds := _get_lifetime(old)) is None else now + seconds,
            replaces=old.id,
            first_id=old.limits_id,
        )

    async def revoke_key(self, key_id: str, admin: Admin) -> ApiKey:
        """Revokes a key, at once and for good. Does nothing if it was revoked before.

        Raises ApiKeyNotFound, or ApiKeyConfigured.
        """
        now = self._wall_clock()

        def revoke(table: ApiKeyTable) -> _TableEdit:
            key = self._find_changeable_key(table, key_id)
            if key.revoked_at is not None:
                return _TableEdit((key,), None)
            event = self._make_event("key_revoked", admin, key, {"name": key.name})
            return _TableEdit((replace(key, revoked_at=now),), event)

        return (await self._edit_table(revoke)).keys[0]

    async def delete_old_keys(self, retention_seconds: float) -> None:
        """Deletes the keys that ended more than `retention_seconds` ago."""
        before = self._wall_clock() - retention_seconds
        table = await self._load_table()
        deleted_ids = tuple(key.id for key in table.keys if _get_ended_at(key) < before)
        if deleted_ids:
            version = make_table_version(self._draw_bytes)
            # After a conflict, the next call deletes them.
            await self._store.change_table(
                ApiKeyChange(expected_version=table.version, version=version, deleted_ids=deleted_ids)
            )

    async def _edit_table(self, edit_table: Callable[[ApiKeyTable], _TableEdit]) -> _TableEdit:
        """Saves the changed keys with the event. Computes both again if another admin changed the table meanwhile."""
        for _ in range(MAX_TRIES):
            table = await self._load_table()
            edit = edit_table(table)
            if edit.event is None:
                return edit
            change = ApiKeyChange(
                expected_version=table.version,
                version=make_table_version(self._draw_bytes),
                keys=edit.keys,
                event=edit.event,
            )
            if await self._store.change_table(change):
                return edit
        raise StoreUnavailable("other admins change API keys at the same time. Nothing was changed: try again.")

    async def _load_table(self) -> ApiKeyTable:
        table = await self._store.load_table()
        if table is None:
            raise StoreUnavailable("the API keys could not be loaded")
        return table

    def _find_changeable_key(self, table: ApiKeyTable, key_id: str) -> ApiKey:
        """Raises ApiKeyNotFound, or ApiKeyConfigured."""
        for configured in self._catalogue().configured_keys.values():
            if configured.id == key_id:
                file = "gateway.yaml" if configured.team is None else "teams.yaml"
                raise ApiKeyConfigured(f"API key '{key_id[:60]}' is in {file}: change it there")
        return _find_key(table, key_id)

    # --- events and checks

    async def save_event(
        self,
        action: str,
        admin: Admin,
        owner: tuple[str | None, str | None],
        details: Mapping[str, Any],
        mark: EventMark | None = None,
    ) -> None:
        """Saves the event of an action that changes no API key. `owner`: its team and API key. With the same `mark` it
        is saved once."""
        event = self._make_owner_event(action, admin, owner, details)
        if mark is not None:
            event = replace(event, id=mark.id, at=mark.at)
        await self._edit_table(lambda _: _TableEdit((), event))

    def _make_event(self, action: str, admin: Admin, key: ApiKey, details: Mapping[str, Any]) -> AdminEvent:
        return self._make_owner_event(action, admin, (key.team, key.id), details)

    def _make_owner_event(
        self, action: str, admin: Admin, owner: tuple[str | None, str | None], details: Mapping[str, Any]
    ) -> AdminEvent:
        now = self._wall_clock()
        return AdminEvent(
            id=make_event_id(now, self._draw_bytes(6).hex()),
            at=now,
            action=action,
            actor=admin.actor,
            source=admin.source,
            key_id=owner[1],
            team=owner[0],
            details={name: value for name, value in details.items() if value not in (None, "", (), {})},
        )

    def _check_options(self, options: KeyOptions) -> None:
        catalogue = self._catalogue()
        if not options.scopes:
            raise InvalidKeyOption("scopes", "a key needs at least one scope: generate, read or admin")
        _check_name(options.name)
        if options.team is None and set(options.scopes) != {Scope.ADMIN}:
            raise InvalidKeyOption("team", "a key with the scope generate or read needs a team")
        if options.team is not None and options.team not in catalogue.teams:
            suggestion = did_you_mean(options.team, catalogue.teams)
            raise InvalidKeyOption("team", f"team '{options.team[:60]}' is not in teams.yaml{suggestion}")
        self._check_policies(options.team, options.policies or ())

    def _check_change(self, key: ApiKey, change: KeyChange) -> None:
        if change.name is not UNSET:
            _check_name(change.name)
        if change.policies is not UNSET:
            self._check_policies(key.team, change.policies or ())
        if key.team is None and any(amount is not None for amount in change.budget.values()):
            raise InvalidKeyOption("budget", NO_BUDGET_WITHOUT_TEAM)

    def _check_policies(self, team: str | None, policies: tuple[str, ...]) -> None:
        config = self._catalogue().teams.get(team or "")
        allowed = config.policies if config else ()
        for policy in policies:
            if policy not in allowed:
                listed = ", ".join(allowed) or "none"
                message = f"team '{team}' may not request policy '{policy[:60]}'; it may request: {listed}"
                raise InvalidKeyOption("policies", message)


def _check_name(name: str) -> None:
    if not name.isprintable() or len(name) > MAX_NAME_LENGTH:
        raise InvalidKeyOption("name", f"at most {MAX_NAME_LENGTH} printable characters")


def _find_key(table: ApiKeyTable, key_id: str) -> ApiKey:
    key = next((key for key in table.keys if key.id == key_id), None)
    if key is None:
        raise ApiKeyNotFound(f"API key '{key_id[:60]}' not found")
    return key


def _get_lifetime(key: ApiKey) -> float | None:
    """Returns how long a successor of the key works; None if it does not expire."""
    if key.lifetime_seconds is not UNSET:
        return key.lifetime_seconds
    return None if key.expires_at is None else key.expires_at - key.created_at


def _require_active(key: ApiKey, now: float) -> ApiKey:
    if (status := key.get_status(now)) != "active":
        raise ApiKeyInactive(f"API key '{key.id}' is {status}")
    return key


def _first_time(time: float | None, other: float) -> float:
    return other if time is None else min(time, other)


def _get_ended_at(key: ApiKey) -> float:
    """Returns when the key stopped to work; infinity if it still works."""
    return min(time for time in (key.revoked_at, key.expires_at, float("inf")) if time is not None)


def _describe_key(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "scopes": [str(scope) for scope in key.scopes],
        "policies": list(key.policies) if key.policies is not None else None,
        "budget": serialize_limits(key.budget),
        "expires_at": format_time(key.expires_at),
        "replaces": key.replaces,
    }
