"""What admins see of budgets, and how they raise them for a while. Each change is saved after an event that names its
admin, and so is the end of an override that expires."""

import hashlib
from collections.abc import Callable, Collection
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from gateway.access.budget_events import BudgetOverrideChanged
from gateway.access.key_administration import Admin, EventMark, InvalidKeyOption, KeyAdministration
from gateway.access.key_requests import parse_duration
from gateway.catalogue import Catalogue
from gateway.events import EventSink
from gateway.jobs.budgets import (
    BudgetLimit,
    BudgetLimits,
    WindowKind,
    get_window_end,
    list_limits,
    make_owner,
    split_owner,
)
from gateway.money import MICROS_PER_USD, parse_usd
from gateway.store.api_keys import AdminEvent, format_time, make_event_id
from gateway.store.base import Store
from gateway.store.budget_balances import load_balance
from gateway.store.budget_overrides import (
    OVERRIDE,
    BudgetOverride,
    compute_raised_amount,
    decode_override,
    list_overrides,
)
from gateway.store.ledger_totals import BudgetBalance
from gateway.store.partitions import new_resource_id
from gateway.store.team_records import MAX_PAGE_RECORDS, RecordKind, encode_record
from gateway.suggestions import did_you_mean
from gateway.timeouts_and_intervals import MaintenanceTiming

MAX_REASON_LENGTH = 200
# So long after the end of its window, the money of a job may still be booked: longer than orders take.
LATE_MONEY_SECONDS = 12 * 3_600.0
_EVENTS_OF_ENDS = ("budget_override_ended", "budget_override_expired")
# The actor of the end of an override that expires.
GATEWAY = Admin("gateway", "expiry")


class OverrideNotFound(Exception):
    """No override has this id, or it has ended."""


class RaiseBudgetRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A temporary override. `amount`: USD like "80.00". It ends at `until`, like 2026-12-01T00:00Z, or after
    `duration`, like 24h. `key_id`: of an API key, or its reference in `teams.yaml`; without it, the budget of the team
    is raised."""

    team: str
    window: WindowKind
    amount: str
    reason: str
    until: str | None = None
    duration: str | None = None
    key_id: str | None = None


class BudgetStatus(Struct, frozen=True, kw_only=True):
    """One limit of a team or API key. `limit`: with the override that applies now; `configured`: without it."""

    limit: BudgetLimit
    configured: int
    balance: BudgetBalance
    overrides: tuple[BudgetOverride, ...]

    @property
    def left(self) -> int:
        return max(0, self.limit.amount - self.balance.spent - self.balance.held)


class BudgetAdministration(Struct, frozen=True):
    """The actions of admins on budgets, with the configuration in force."""

    store: Store
    keys: KeyAdministration
    catalogue: Callable[[], Catalogue]
    wall_clock: Callable[[], float]
    draw_bytes: Callable[[int], bytes]
    emit: EventSink
    timing: MaintenanceTiming = MaintenanceTiming()

    async def list_budgets(self, teams: Collection[str] | None = None) -> list[BudgetStatus]:
        """Lists the limits of all teams and API keys, or of these teams and their keys."""
        now, states = self.wall_clock(), []
        budgets = await self._list_owner_limits(teams)
        for name in sorted({split_owner(owner)[0] for owner in budgets}):
            overrides = [item for item in await list_overrides(self.store, name) if item.until > now]
            for owner, limits in budgets.items():
                if split_owner(owner)[0] == name:
                    for limit in reversed(list(list_limits(owner, limits, now))):
                        states.append(await self._load_state(limit, overrides, now))
        return states

    async def list_ended_budgets(self) -> list[BudgetStatus]:
        """Lists the limits whose window ended within LATE_MONEY_SECONDS, as they were at its end."""
        now, states = self.wall_clock(), []
        moment = now - LATE_MONEY_SECONDS
        ended: list[BudgetOverride] | None = None
        overrides: dict[str, list[BudgetOverride]] = {}
        for owner, limits in (await self._list_owner_limits(None)).items():
            team, _ = split_owner(owner)
            for limit in list_limits(owner, limits, moment):
                window_end = get_window_end(limit.window.kind, moment)
                if window_end is not None and window_end <= now:
                    if ended is None:
                        ended = await self._list_ended_overrides(moment)
                    if team not in overrides:
                        ended_of_team = (override for override in ended if override.team == team)
                        overrides[team] = [*await list_overrides(self.store, team), *ended_of_team]
                    states.append(await self._load_state(limit, overrides[team], window_end - 1.0))
        return states

    async def _list_ended_overrides(self, since: float) -> list[BudgetOverride]:
        """Lists the overrides that ended since a moment. Their records are deleted: the events are kept."""
        overrides, cursor, has_more = [], None, True
        while has_more:
            page = await self.store.api_keys.list_events(cursor=cursor)
            recent = [event for event in page.events if event.at >= since]
            overrides += [_decode_ended_override(event) for event in recent if event.action in _EVENTS_OF_ENDS]
            cursor, has_more = page.next_cursor, page.next_cursor is not None and len(recent) == len(page.events)
        return overrides

    async def _list_owner_limits(self, teams: Collection[str] | None) -> dict[str, BudgetLimits]:
        """Lists teams, each with its API keys, that have a budget."""
        now = self.wall_clock()
        keys = [listed.key for listed in await self.keys.list_keys()]
        budgets = {}
        for name, config in self.catalogue().teams.items():
            if teams is None or name in teams:
                budgets[name] = config.budget.to_limits()
                budgets |= {make_owner(name, key): budget.to_limits() for key, budget in config.key_budgets.items()}
                active = [key for key in keys if key.team == name and key.get_status(now) == "active"]
                budgets |= {make_owner(name, key.limits_id): key.budget for key in active}
        return {owner: limits for owner, limits in budgets.items() if not limits.is_empty}

    async def _load_state(self, limit: BudgetLimit, overrides: list[BudgetOverride], now: float) -> BudgetStatus:
        raised = BudgetLimit(limit.owner, limit.window, compute_raised_amount(limit, overrides, now))
        return BudgetStatus(
            limit=raised,
            configured=limit.amount,
            balance=await load_balance(self.store, limit.owner, limit.window),
            overrides=tuple(item for item in overrides if (item.owner, item.kind) == (limit.owner, limit.window.kind)),
        )

    async def raise_budget(self, request: RaiseBudgetRequest, admin: Admin) -> BudgetOverride:
        """Raises a limit for a while, at once on all replicas. Raises InvalidKeyOption."""
        now = self.wall_clock()
        override = BudgetOverride(
            id=new_resource_id(OVERRIDE, request.team, self.draw_bytes, self.wall_clock),
            team=request.team,
            created_at=now,
            kind=request.window,
            amount=_parse_amount(request.amount),
            until=_parse_end(request, now),
            reason=_check_reason(request.reason),
            actor=admin.actor,
            key_id=await self._find_budget_key(request),
        )
        override = replace(override, configured=await self._require_higher_limit(override))
        await self._clear_expired(override.team, now)
        await self._save_event("budget_raised", admin, override)
        await self.store.team_records.save(encode_record(RecordKind.BUDGET_OVERRIDE, override), override.until - now)
        self._emit("budget_raised", admin, override)
        return override

    async def end_override(self, override_id: str, admin: Admin) -> BudgetOverride:
        """Ends an override at once. Raises OverrideNotFound."""
        now = self.wall_clock()
        for team in self.catalogue().teams:
            for override in await list_overrides(self.store, team):
                if override.id == override_id and override.until > now:
                    await self._save_event("budget_override_ended", admin, override)
                    await self.store.team_records.delete(override_id)
                    self._emit("budget_override_ended", admin, override)
                    return override
        raise OverrideNotFound(f"override '{override_id[:60]}' not found")

    async def expire_overrides(self) -> None:
        """Ends the overrides whose time has come. Only one replica ends each of them."""
        for record in await self.store.team_records.list_due(RecordKind.BUDGET_OVERRIDE):
            await self._expire(decode_override(record), self.wall_clock())

    async def _expire(self, override: BudgetOverride, now: float) -> None:
        """Saves the event of the end, and deletes the override. After a crash in between this is repeated: the event
        has the same id, so that there is one."""
        remaining_seconds = override.until - now
        lease_seconds = remaining_seconds if remaining_seconds > 0 else self.timing.budget_lease_seconds
        claim = encode_record(RecordKind.BUDGET_OVERRIDE, override)
        if not await self.store.team_records.save(claim, lease_seconds) or remaining_seconds > 0:
            return
        event_id = make_event_id(override.until, hashlib.sha256(override.id.encode()).hexdigest()[:12])
        await self._save_event("budget_override_expired", GATEWAY, override, EventMark(event_id, override.until))
        await self.store.team_records.delete(override.id)
        self._emit("budget_override_expired", GATEWAY, override)

    async def _save_event(
        self, action: str, admin: Admin, override: BudgetOverride, mark: EventMark | None = None
    ) -> None:
        owner = override.team, override.key_id or None
        await self.keys.save_event(action, admin, owner, describe_override(override), mark)

    def _emit(self, action: str, admin: Admin, override: BudgetOverride) -> None:
        self.emit(
            BudgetOverrideChanged(
                action=action,
                override=override.id,
                team=override.team,
                key=override.key_id or None,
                window=override.kind,
                configured=override.configured,
                limit=override.amount,
                until=override.until,
                actor=admin.actor,
                source=admin.source,
            )
        )

    async def _find_budget_key(self, request: RaiseBudgetRequest) -> str:
        """Returns the id under which the budget of the key is counted; empty for the team."""
        teams = self.catalogue().teams
        if request.team not in teams:
            suggestion = did_you_mean(request.team, teams)
            raise InvalidKeyOption("team", f"team '{request.team[:60]}' is not in teams.yaml{suggestion}")
        if request.key_id is None:
            return ""
        if request.key_id in teams[request.team].keys:
            return request.key_id
        for listed in await self.keys.list_keys(request.team):
            if request.key_id == listed.key.id:
                return listed.key.limits_id
        raise InvalidKeyOption("key_id", f"team '{request.team}' has no API key '{request.key_id[:60]}'")

    async def _require_higher_limit(self, override: BudgetOverride) -> int:
        """Returns the configured limit."""
        limits = (await self._list_owner_limits((override.team,))).get(override.owner, BudgetLimits())
        configured = limits.get(override.kind)
        if configured is None:
            raise InvalidKeyOption("window", f"the budget has no limit per {override.kind}, so there is none to raise")
        if override.amount <= configured:
            raise InvalidKeyOption("amount", f"the limit is {configured / MICROS_PER_USD} USD: an override raises it")
        return configured

    async def _clear_expired(self, team: str, now: float) -> None:
        """Ends overrides whose time has come, to make room. Raises InvalidKeyOption if too many are in force."""
        overrides = await list_overrides(self.store, team)
        expired = [override for override in overrides if override.until <= now]
        for override in expired:
            await self._expire(override, now)
        if len(overrides) - len(expired) >= MAX_PAGE_RECORDS:
            raise InvalidKeyOption("team", f"{MAX_PAGE_RECORDS} overrides are in force. End one of them first")


def describe_override(override: BudgetOverride) -> dict[str, object]:
    return {
        "override": override.id,
        "window": override.kind.value,
        "configured": override.configured / MICROS_PER_USD,
        "amount": override.amount / MICROS_PER_USD,
        "until": format_time(override.until),
        "reason": override.reason,
    }


def _decode_ended_override(event: AdminEvent) -> BudgetOverride:
    """Makes an override that ended at the time of the event, from what `describe_override` wrote."""
    details = event.details
    return BudgetOverride(
        id=details["override"],
        team=event.team or "",
        created_at=event.at,
        kind=WindowKind(details["window"]),
        amount=round(details["amount"] * MICROS_PER_USD),
        until=event.at,
        reason=details["reason"],
        actor=event.actor,
        key_id=event.key_id or "",
    )


def serialize_override(override: BudgetOverride) -> dict[str, object]:
    return {
        "object": "budget_override",
        "id": override.id,
        "team": override.team,
        "key_id": override.key_id or None,
        "window": override.kind.value,
        "configured": override.configured / MICROS_PER_USD,
        "amount": override.amount / MICROS_PER_USD,
        "created_at": int(override.created_at),
        "until": int(override.until),
        "reason": override.reason,
        "actor": override.actor,
    }


def serialize_budget(state: BudgetStatus) -> dict[str, object]:
    team, key_id = split_owner(state.limit.owner)
    return {
        "object": "budget",
        "team": team,
        "key_id": key_id or None,
        "window": state.limit.window.kind.value,
        "period": state.limit.window.name,
        "configured": state.configured / MICROS_PER_USD,
        "limit": state.limit.amount / MICROS_PER_USD,
        "spent": state.balance.spent / MICROS_PER_USD,
        "held": state.balance.held / MICROS_PER_USD,
        "left": state.left / MICROS_PER_USD,
        "overrides": [serialize_override(override) for override in state.overrides],
    }


def _parse_amount(text: str) -> int:
    try:
        return parse_usd(text)
    except ValueError as error:
        raise InvalidKeyOption("amount", str(error)) from None


def _parse_end(request: RaiseBudgetRequest, now: float) -> float:
    if (request.until is None) == (request.duration is None):
        raise InvalidKeyOption("until", "name either 'until' or 'duration'")
    is_time = request.until is not None
    end = _parse_time(request.until or "") if is_time else now + parse_duration("duration", request.duration or "")
    if end <= now:
        raise InvalidKeyOption("until" if is_time else "duration", "an override ends in the future")
    return end


def _parse_time(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidKeyOption("until", f"invalid time '{text[:40]}'. Write it like 2026-12-01T00:00Z")
    return moment.timestamp()


def _check_reason(text: str) -> str:
    reason = text.strip()
    if not reason or not reason.isprintable() or len(reason) > MAX_REASON_LENGTH:
        raise InvalidKeyOption("reason", f"1 to {MAX_REASON_LENGTH} printable characters that say why")
    return reason
