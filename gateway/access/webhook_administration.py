"""How admins add, change and remove targets of webhooks, and rotate their secrets. Each change is saved after an event
that names its admin. Targets of the configuration are listed, and changed in its files only."""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.access.key_administration import MAX_TRIES, Admin, EventMark, InvalidKeyOption, KeyAdministration
from gateway.access.webhook_requests import (
    AddWebhookTargetRequest,
    ChangeWebhookTargetRequest,
    CreatedSecret,
    ListedTarget,
    check_target,
    describe_target,
)
from gateway.catalogue import Catalogue
from gateway.config.signing_secrets import SECRET_PREFIX
from gateway.events import EventSink
from gateway.store.api_keys import format_time, make_event_id
from gateway.store.base import Store, StoreUnavailable
from gateway.store.webhook_targets import (
    StoredSecret,
    StoredTarget,
    TeamTargets,
    decode_targets,
    list_target_records,
    load_team_targets,
    save_team_targets,
)
from gateway.suggestions import did_you_mean
from gateway.webhooks.webhook_events import WebhookTargetChanged

# Of the store, for each team: every job has a webhook for each of them.
MAX_TEAM_TARGETS = 20
# A rotation keeps the older secrets until they expire: at most so many.
MAX_SECRETS = 5
_SECRET_BYTES, _NAME_BYTES = 32, 4


class WebhookTargetNotFound(Exception):
    """The team has no target with this name."""


class WebhookTargetConflict(Exception):
    """The target does not permit this change. The message says why, and what to do."""


class _Change(Struct, frozen=True):
    """A change of one target, for its event. `change`: makes the new targets of the team from those that are stored."""

    action: str
    name: str
    details: Mapping[str, Any]
    change: Callable[[TeamTargets], tuple[StoredTarget, ...]]


class WebhookAdministration(Struct, frozen=True):
    """The actions of admins on targets, with the configuration in force."""

    store: Store
    keys: KeyAdministration
    catalogue: Callable[[], Catalogue]
    wall_clock: Callable[[], float]
    draw_bytes: Callable[[int], bytes]
    emit: EventSink

    # --- reading

    async def list_targets(self, team: str | None = None) -> list[ListedTarget]:
        """Lists the targets of all teams, or of one, by team and name: those of the configuration, and those of the
        store with other names."""
        records = [decode_targets(record) for record in await list_target_records(self.store)]
        stored = {record.team: record for record in records if record.targets}
        teams = sorted({*self.catalogue().teams, *stored}) if team is None else [team]
        return [target for name in teams for target in self._list_team(name, stored.get(name))]

    def _list_team(self, team: str, stored: TeamTargets | None) -> Iterator[ListedTarget]:
        targets = {target.name: self._make_listed(team, target) for target in (stored.targets if stored else ())}
        has_secrets, config = self._has_secrets(team), self.catalogue().teams.get(team)
        for name, target in config.webhooks.targets.items() if config else ():
            targets[str(name)] = ListedTarget(team=team, name=str(name), config=target, has_team_secrets=has_secrets)
        yield from (targets[name] for name in sorted(targets))

    def _make_listed(self, team: str, target: StoredTarget) -> ListedTarget:
        return ListedTarget(
            team=team,
            name=target.name,
            config=target.to_config(),
            stored=target,
            has_team_secrets=self._has_secrets(team),
        )

    def _has_secrets(self, team: str) -> bool:
        return bool(self.catalogue().webhook_secrets.get(team))

    async def get_target(self, target_id: str) -> ListedTarget:
        """Returns one target. Raises WebhookTargetNotFound."""
        target = next((target for target in await self.list_targets() if target.id == target_id), None)
        if target is None:
            raise WebhookTargetNotFound(f"webhook target '{target_id[:60]}' not found")
        return target

    # --- changes

    async def add_target(self, request: AddWebhookTargetRequest, admin: Admin) -> CreatedSecret:
        """Adds a target. It gets a secret of its own if its team has none, or on request. Raises InvalidKeyOption, or
        WebhookTargetConflict."""
        self._require_team(request.team)
        now = self.wall_clock()
        name = f"target-{self.draw_bytes(_NAME_BYTES).hex()}" if request.name is None else request.name
        secret = self._make_secret() if request.own_secret or not self._has_secrets(request.team) else None
        target = check_target(
            StoredTarget(
                name=name,
                url=request.url,
                events=tuple(dict.fromkeys(request.events)),
                created_at=now,
                payload=request.payload,
                is_private=request.private,
                is_enabled=request.enabled,
                description=request.description.strip(),
                secrets=(StoredSecret(value=secret, created_at=now),) if secret else (),
            )
        )

        def add(stored: TeamTargets) -> tuple[StoredTarget, ...]:
            if name in (listed.name for listed in self._list_team(request.team, stored)):
                raise WebhookTargetConflict(f"Team '{request.team}' has a target '{name}'. Use another name")
            if len(stored.targets) >= MAX_TEAM_TARGETS:
                raise WebhookTargetConflict(
                    f"Team '{request.team}' has {MAX_TEAM_TARGETS} targets. Remove one of them first"
                )
            return (*stored.targets, target)

        change = _Change("webhook_target_added", name, describe_target(target), add)
        await self._save(request.team, change, admin)
        return CreatedSecret(self._make_listed(request.team, target), secret)

    async def change_target(self, target_id: str, request: ChangeWebhookTargetRequest, admin: Admin) -> ListedTarget:
        """Changes a target. Raises InvalidKeyOption, WebhookTargetNotFound or WebhookTargetConflict."""
        listed, before = await self._load_stored(target_id)
        after = request.apply_to(before)
        if after != before:
            details = describe_target(after) | {"url_changed": after.url != before.url or None}
            change = _change_one("webhook_target_changed", before.name, details, request.apply_to)
            await self._save(listed.team, change, admin)
        return self._make_listed(listed.team, after)

    async def remove_target(self, target_id: str, admin: Admin) -> ListedTarget:
        """Removes a target with its secrets. Raises WebhookTargetNotFound or WebhookTargetConflict."""
        listed, target = await self._load_stored(target_id)

        def remove(stored: TeamTargets) -> tuple[StoredTarget, ...]:
            return tuple(other for other in stored.targets if other.name != target.name)

        change = _Change("webhook_target_removed", target.name, describe_target(target), remove)
        await self._save(listed.team, change, admin)
        return listed

    async def rotate_secret(self, target_id: str, overlap_seconds: float, admin: Admin) -> CreatedSecret:
        """Gives a target a new secret. For `overlap_seconds`, its webhooks are also signed with the old one.

        Raises WebhookTargetNotFound, or WebhookTargetConflict if it has no secret of its own.
        """
        listed, target = await self._load_stored(target_id)
        if not target.secrets:
            raise WebhookTargetConflict(
                f"Target '{target.name}' is signed with the secrets of its team: rotate them in teams.yaml. "
                "To give it a secret of its own, add it again with 'own_secret'"
            )
        now, secret = self.wall_clock(), self._make_secret()
        old_expires_at = now + overlap_seconds

        def rotate(target: StoredTarget) -> StoredTarget:
            old = [
                replace(old_secret, expires_at=min(old_secret.expires_at or old_expires_at, old_expires_at))
                for old_secret in target.secrets
            ]
            valid = [old_secret for old_secret in old if old_secret.is_valid(now)]
            new = StoredSecret(value=secret, created_at=now)
            return replace(target, secrets=(new, *valid)[:MAX_SECRETS])

        details = {"target": target.name, "old_secret_expires_at": format_time(old_expires_at)}
        change = _change_one("webhook_secret_rotated", target.name, details, rotate)
        await self._save(listed.team, change, admin)
        return CreatedSecret(self._make_listed(listed.team, rotate(target)), secret)

    async def _load_stored(self, target_id: str) -> tuple[ListedTarget, StoredTarget]:
        """Loads a target that can be changed."""
        listed = await self.get_target(target_id)
        if listed.stored is None:
            raise WebhookTargetConflict(f"Target '{listed.name}' is in teams.yaml: change it there")
        return listed, listed.stored

    async def _save(self, team: str, change: _Change, admin: Admin) -> None:
        """Saves the event, and then the changed targets. Computes them again if another admin changed them meanwhile;
        the event is saved once. If the answer of the store was lost, the saved change is recognized."""
        now, changed = self.wall_clock(), None
        mark = EventMark(make_event_id(now, self.draw_bytes(6).hex()), now)
        for _ in range(MAX_TRIES):
            stored = await load_team_targets(self.store, team, now)
            if changed is not None and stored.targets == changed.targets:
                break
            targets = sorted(change.change(stored), key=lambda target: target.name)
            changed = replace(stored, targets=tuple(targets))
            await self.keys.save_event(change.action, admin, (team, None), change.details, mark)
            if await save_team_targets(self.store, changed):
                break
        else:
            raise StoreUnavailable("other admins change targets at the same time. Nothing was changed: try again.")
        self.emit(
            WebhookTargetChanged(
                action=change.action, team=team, target=change.name, actor=admin.actor, source=admin.source
            )
        )

    # --- checks

    def _require_team(self, team: str) -> None:
        teams = self.catalogue().teams
        if team not in teams:
            raise InvalidKeyOption("team", f"team '{team[:60]}' is not in teams.yaml{did_you_mean(team, teams)}")

    def _make_secret(self) -> str:
        return SECRET_PREFIX + base64.b64encode(self.draw_bytes(_SECRET_BYTES)).decode()


def _change_one(
    action: str, name: str, details: Mapping[str, Any], update: Callable[[StoredTarget], StoredTarget]
) -> _Change:
    """Makes a change of one target that exists."""

    def change(stored: TeamTargets) -> tuple[StoredTarget, ...]:
        if all(target.name != name for target in stored.targets):
            raise WebhookTargetNotFound(f"webhook target '{name}' of team '{stored.team}' not found")
        return tuple(update(target) if target.name == name else target for target in stored.targets)

    return _Change(action, name, details, change)
