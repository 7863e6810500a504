"""Records of teams beside their jobs: files, batches, webhooks and their targets, and what happened to budgets. A store
keeps them with a version and a due time."""

import re
from enum import StrEnum
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

MAX_PAGE_RECORDS = 100
# The id of a mark is this, and the id of the deleted record.
DELETED_PREFIX = "deleted_"
_RECORD_ID = re.compile(
    rf"(?:{DELETED_PREFIX})?(?:file-|batch_|delivery_|override_|threshold_|targets_)[0-9a-z]{{28}}", re.ASCII
)


class RecordKind(StrEnum):
    """The kind of thing that a record describes. DELIVERY: a webhook. DELETED: a mark at the place of a deleted record
    in its list."""

    FILE = "file"
    BATCH = "batch"
    DELIVERY = "delivery"
    DELETED = "deleted"
    BUDGET_OVERRIDE = "budget_override"
    BUDGET_THRESHOLD = "budget_threshold"
    WEBHOOK_TARGETS = "webhook_targets"


class TeamRecord(Struct, frozen=True, kw_only=True):
    """A record of a team. `version` grows by one with each change; the store does not read `content`."""

    id: str
    kind: RecordKind
    team: str
    created_at: float
    version: int
    content: bytes

    @property
    def position(self) -> "RecordPosition":
        return RecordPosition(self.created_at, self.id)


class RecordPosition(Struct, frozen=True, order=True):
    """A place in the list of a team's records, which is sorted by time and then by id."""

    created_at: float
    id: str


class RecordContent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The fields that the content of every record has. `version` is that of the record."""

    id: str
    team: str
    created_at: float
    version: int = 0


def encode_record(kind: RecordKind, content: RecordContent) -> TeamRecord:
    """Encodes the next version of a record, to be saved."""
    next_content = replace(content, version=content.version + 1)
    return TeamRecord(
        id=content.id,
        kind=kind,
        team=content.team,
        created_at=content.created_at,
        version=next_content.version,
        content=msgspec.msgpack.encode(next_content),
    )


class TeamRecordStore(Protocol):
    """Stores records of teams. Every call may raise StoreUnavailable."""

    async def save(self, record: TeamRecord, due_in_seconds: float | None) -> bool:
        """Saves the record if the stored one has the previous version; a record with version 1 must be new.

        The record is due after `due_in_seconds`, by the clock of the store; never, if that is None. Returns False, and
        changes nothing, if the stored record has another version, or does not exist."""

    async def load(self, record_id: str) -> TeamRecord | None: ...

    async def delete(self, record_id: str) -> None:
        """Deletes a record. Safe to repeat."""

    async def list_records(
        self, kind: RecordKind, team: str, limit: int, after: RecordPosition | None = None, oldest_first: bool = False
    ) -> tuple[TeamRecord, ...]:
        """Lists the records of a team in this order, from the one that follows `after`."""

    async def list_due(self, kind: RecordKind, limit: int = 100) -> tuple[TeamRecord, ...]:
        """Lists the records that are due, soonest first. Save one with a later due time to claim it: only one replica
        succeeds."""


def is_record_id(text: str) -> bool:
    return _RECORD_ID.fullmatch(text) is not None
