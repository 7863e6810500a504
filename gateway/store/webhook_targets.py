"""The targets of webhooks that admins added: one record for each team, so that no two changes contradict each other.

Their signing secrets are stored as they are, since each signature needs them:
docs/decisions/2026-11-28-webhook-targets.md.
"""

import hashlib
from base64 import b32encode

import msgspec
from msgspec import Struct

from gateway.config.value_types import WebhookUrl
from gateway.config.webhook_schema import PayloadKind, WebhookEventName, WebhookTargetConfig
from gateway.store.base import DAY_SECONDS
from gateway.store.budget_overrides import HasTeamRecords
from gateway.store.team_records import RecordContent, RecordKind, TeamRecord, encode_record

TARGETS_PREFIX = "targets_"
MAX_TEAMS = 10_000
# The records are always due, also if the clock of the store is set back: so one call lists those of all teams.
_DUE_IN_SECONDS = -3_650 * DAY_SECONDS
_ID_LENGTH, _ID_BYTES = 28, 18


class StoredSecret(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A signing secret. `expires_at`: None for the newest one of its target."""

    value: str
    created_at: float
    expires_at: float | None = None

    def __repr__(self) -> str:
        return "StoredSecret(…)"

    def is_valid(self, now: float) -> bool:
        return self.expires_at is None or self.expires_at > now


class StoredTarget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A target. `secrets`: its own ones, the newest first; without any it is signed with those of its team."""

    name: str
    url: str
    events: tuple[WebhookEventName, ...]
    created_at: float
    payload: PayloadKind = "thin"
    is_private: bool = False
    is_enabled: bool = True
    description: str = ""
    secrets: tuple[StoredSecret, ...] = ()

    def to_config(self) -> WebhookTargetConfig:
        return WebhookTargetConfig(
            url=WebhookUrl(self.url), events=self.events, payload=self.payload, private=self.is_private
        )


class TeamTargets(RecordContent, frozen=True, kw_only=True, omit_defaults=True):
    """The targets of a team, in the order of their names. `created_at`: of the record."""

    targets: tuple[StoredTarget, ...] = ()


_decoder = msgspec.msgpack.Decoder(TeamTargets)


def decode_targets(record: TeamRecord) -> TeamTargets:
    """Raises MsgspecError if an incompatible version wrote the record."""
    return _decoder.decode(record.content)


async def list_target_records(store: HasTeamRecords) -> tuple[TeamRecord, ...]:
    """Lists the records of all teams."""
    return await store.team_records.list_due(RecordKind.WEBHOOK_TARGETS, MAX_TEAMS)


async def load_team_targets(store: HasTeamRecords, team: str, now: float) -> TeamTargets:
    """Loads the targets of a team; a record that can be saved if there is none."""
    record_id = _make_record_id(team)
    stored = await store.team_records.load(record_id)
    return decode_targets(stored) if stored else TeamTargets(id=record_id, team=team, created_at=now)


async def save_team_targets(store: HasTeamRecords, targets: TeamTargets) -> bool:
    """Saves the next version of a loaded record. Returns False if it has been changed meanwhile."""
    return await store.team_records.save(encode_record(RecordKind.WEBHOOK_TARGETS, targets), _DUE_IN_SECONDS)


def _make_record_id(team: str) -> str:
    """Makes the id of a team's record. It follows from the team, so that there is one."""
    digest = hashlib.blake2b(team.encode(), digest_size=_ID_BYTES, person=b"igw.targets").digest()
    return TARGETS_PREFIX + b32encode(digest).decode().lower()[:_ID_LENGTH]
