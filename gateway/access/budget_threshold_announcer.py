"""Announces soft thresholds of budgets: once for each budget, window and threshold, also after crashes.

A replica compares what is spent with the thresholds after each commit that books money, and all budgets from time to
time, since the process of a commit may have crashed. Then it also compares windows that have ended: money counts in the
window in which its job was created, and may be booked later.

The first replica that finds a threshold reached saves a record, whose id follows from budget, window and threshold. The
record is due until its webhooks are saved, so that after a crash another replica continues. Webhooks have ids that
follow from it, too: none is made twice.
"""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from gateway.access.budget_administration import BudgetAdministration, BudgetStatus
from gateway.access.budget_events import BudgetThresholdReached
from gateway.config.budget_schema import BudgetConfig
from gateway.config.webhook_schema import BUDGET_THRESHOLD_EVENT
from gateway.events import LedgerEntryPosted
from gateway.jobs.budgets import get_window, get_window_end, split_owner
from gateway.money import MICROS_PER_USD
from gateway.store.base import DAY_SECONDS
from gateway.store.budget_thresholds import ReachedThreshold, decode_threshold, make_threshold_id
from gateway.store.team_records import RecordKind, encode_record
from gateway.webhooks.webhook_records import WebhookRecord, encode_delivery, make_delivery_id

# A record outlives its window by this time: longer than the window is compared, and the clocks of replicas differ.
RETENTION_SECONDS = 2 * DAY_SECONDS
MAX_KNOWN_IDS = 10_000


class BudgetThresholdAnnouncer:
    """Compares the budgets of teams that spent money, and announces the thresholds that they reached."""

    def __init__(self, budgets: BudgetAdministration, monotonic: Callable[[], float]) -> None:
        self._timing = budgets.timing
        self._budgets, self._monotonic = budgets, monotonic
        self._records = budgets.store.team_records
        self._spending_teams: set[str] = set()
        self._next_full_check = monotonic()
        self._known_ids: set[str] = set()

    def note_spending(self, event: LedgerEntryPosted) -> None:
        """Notes the team that a commit of this process books money for."""
        self._spending_teams.add(event.team)

    async def check(self) -> None:
        """Compares what has changed, and announces what is due."""
        now, spending_teams = self._monotonic(), frozenset(self._spending_teams)
        is_full_check = now >= self._next_full_check
        if is_full_check or spending_teams:
            states = await self._budgets.list_budgets(None if is_full_check else spending_teams)
            if is_full_check:
                states += await self._budgets.list_ended_budgets()
            for status in states:
                await self._record_reached(status)
            # Not before: if the store fails, the next check compares them.
            self._spending_teams -= spending_teams
        if is_full_check:
            self._next_full_check = now + self._timing.threshold_full_check_seconds
        for record in await self._records.list_due(RecordKind.BUDGET_THRESHOLD):
            await self._announce(decode_threshold(record))

    async def _record_reached(self, status: BudgetStatus) -> None:
        for reached in self._list_reached(status):
            if reached.id not in self._known_ids:
                await self._records.save(encode_record(RecordKind.BUDGET_THRESHOLD, reached), 0.0)
                if len(self._known_ids) >= MAX_KNOWN_IDS:
                    self._known_ids.clear()
                self._known_ids.add(reached.id)

    def _list_reached(self, status: BudgetStatus) -> Iterator[ReachedThreshold]:
        limit, spent = status.limit, status.balance.spent
        team, key_id = split_owner(limit.owner)
        config = self._budgets.catalogue().teams.get(team)
        for percent in (config.budget if config else BudgetConfig()).thresholds:
            if spent and spent * 100 >= limit.amount * percent:
                yield ReachedThreshold(
                    id=make_threshold_id(limit, percent),
                    team=team,
                    created_at=self._budgets.wall_clock(),
                    kind=limit.window.kind,
                    period=limit.window.name,
                    percent=percent,
                    limit=limit.amount,
                    spent=spent,
                    key_id=key_id,
                )

    async def _announce(self, reached: ReachedThreshold) -> None:
        """Saves the webhooks of a threshold, and then that it is announced. Deletes a record whose window is over."""
        if reached.is_announced:
            return await self._records.delete(reached.id)
        if not await self._records.save(
            encode_record(RecordKind.BUDGET_THRESHOLD, reached), self._timing.budget_lease_seconds
        ):
            return
        for webhook in self._make_webhooks(reached):
            await self._records.save(encode_delivery(webhook), 0.0)
        announced = replace(reached, version=reached.version + 1, is_announced=True)
        due_in_seconds = _compute_retention_seconds(reached)
        if await self._records.save(encode_record(RecordKind.BUDGET_THRESHOLD, announced), due_in_seconds):
            self._budgets.emit(_make_event(reached))

    def _make_webhooks(self, reached: ReachedThreshold) -> Iterator[WebhookRecord]:
        """Makes a webhook for each target of the team that asks for the event."""
        for name, target in self._budgets.catalogue().get_webhook_targets(reached.team).items():
            if BUDGET_THRESHOLD_EVENT in target.config.events:
                yield WebhookRecord(
                    id=make_delivery_id(reached.id, name),
                    team=reached.team,
                    created_at=reached.created_at,
                    event=BUDGET_THRESHOLD_EVENT,
                    target=name,
                    host=target.config.url.host,
                    due_at=reached.created_at,
                    data=serialize_threshold(reached),
                )


def _compute_retention_seconds(reached: ReachedThreshold) -> float | None:
    """Returns how long the record of a threshold is kept; None for the lifetime budget."""
    if get_window(reached.kind, reached.created_at).name != reached.period:
        # The window has ended.
        return RETENTION_SECONDS
    window_end = get_window_end(reached.kind, reached.created_at)
    return None if window_end is None else window_end - reached.created_at + RETENTION_SECONDS


def serialize_threshold(reached: ReachedThreshold) -> dict[str, object]:
    return {
        "object": "budget",
        "team": reached.team,
        "key_id": reached.key_id or None,
        "window": reached.kind.value,
        "period": reached.period,
        "threshold": reached.percent,
        "limit": reached.limit / MICROS_PER_USD,
        "spent": reached.spent / MICROS_PER_USD,
    }


def _make_event(reached: ReachedThreshold) -> BudgetThresholdReached:
    return BudgetThresholdReached(
        at=reached.created_at,
        team=reached.team,
        key=reached.key_id or None,
        window=reached.kind,
        period=reached.period,
        threshold=reached.percent,
        limit=reached.limit,
        spent=reached.spent,
    )
