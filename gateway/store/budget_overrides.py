"""Temporary overrides of budgets. They are read only after a refusal, so that no other request waits for them."""

from collections.abc import Iterable
from typing import Protocol

import msgspec
from msgspec.structs import replace

from gateway.jobs.budgets import BudgetLimit, WindowKind, make_owner, split_owner
from gateway.store.team_records import MAX_PAGE_RECORDS, RecordContent, RecordKind, TeamRecord, TeamRecordStore

OVERRIDE = "override_"


class BudgetOverride(RecordContent, frozen=True, kw_only=True, omit_defaults=True):
    """Raises one limit of a team, or of the budget of an API key, until a moment.

    `configured`, `amount`: in micro-USD, what the limit was when it was raised, and to what. `actor`: the admin.
    """

    kind: WindowKind
    configured: int = 0
    amount: int
    until: float
    reason: str
    actor: str
    key_id: str = ""

    @property
    def owner(self) -> str:
        return make_owner(self.team, self.key_id)


class HasTeamRecords(Protocol):
    """A store, as far as overrides need it."""

    @property
    def team_records(self) -> TeamRecordStore: ...


_decoder = msgspec.msgpack.Decoder(BudgetOverride)


def decode_override(record: TeamRecord) -> BudgetOverride:
    return _decoder.decode(record.content)


async def list_overrides(store: HasTeamRecords, team: str) -> tuple[BudgetOverride, ...]:
    """Lists the overrides of a team and its API keys, the newest first, also those that have ended."""
    records = await store.team_records.list_records(RecordKind.BUDGET_OVERRIDE, team, MAX_PAGE_RECORDS)
    return tuple(map(decode_override, records))


async def load_raised_limits(
    store: HasTeamRecords, limits: tuple[BudgetLimit, ...], now: float
) -> tuple[BudgetLimit, ...]:
    """Returns the limits of a job with the overrides that apply now. An override never lowers a limit."""
    teams = {split_owner(limit.owner)[0] for limit in limits}
    overrides = [override for team in teams for override in await list_overrides(store, team)]
    return tuple(replace(limit, amount=compute_raised_amount(limit, overrides, now)) for limit in limits)


def compute_raised_amount(limit: BudgetLimit, overrides: Iterable[BudgetOverride], now: float) -> int:
    amounts = [
        override.amount
        for override in overrides
        if override.until > now and (override.owner, override.kind) == (limit.owner, limit.window.kind)
    ]
    return max([limit.amount, *amounts])
