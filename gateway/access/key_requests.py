"""What admins send and get: by the admin API as JSON, and by the command line."""

import re
from typing import Any

from msgspec import UNSET, Struct, UnsetType, to_builtins

from gateway.access.key_administration import (
    NO_BUDGET_WITHOUT_TEAM,
    CommonKeyOptions,
    InvalidKeyOption,
    KeyOptions,
    ListedKey,
)
from gateway.access.key_changes import KeyChange
from gateway.config.schema import Limit
from gateway.jobs.budgets import BudgetLimits, serialize_limits
from gateway.money import parse_usd
from gateway.store.api_keys import AdminEvent

DEFAULT_OVERLAP = "24h"
_DURATION = re.compile(r"([1-9]\d{0,5})([smhd])|0", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MAX_DURATION_SECONDS = 3_650 * 86_400


class BudgetAmounts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budget of an API key, in USD like "5.00". null: the window is not limited. A change leaves the limits of
    missing windows as they are."""

    day: str | UnsetType | None = UNSET
    week: str | UnsetType | None = UNSET
    month: str | UnsetType | None = UNSET
    lifetime: str | UnsetType | None = UNSET

    def to_amounts(self) -> dict[str, int | None]:
        """Returns the windows that are named, in micro-USD. Raises InvalidKeyOption."""
        texts: dict[str, str | None] = to_builtins(self)
        return {name: None if text is None else _parse_amount(name, text) for name, text in texts.items()}


def _parse_amount(window: str, text: str) -> int:
    try:
        return parse_usd(text)
    except ValueError as error:
        raise InvalidKeyOption(f"budget.{window}", str(error)) from None


class CreateKeyRequest(CommonKeyOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a new API key. `expires_in`: like 90d; None if the key does not expire."""

    expires_in: str | None = None
    budget: BudgetAmounts = BudgetAmounts()

    def to_options(self) -> KeyOptions:
        """Converts the request to options. Raises InvalidKeyOption."""
        budget = BudgetLimits(**self.budget.to_amounts())
        if self.team is None and not budget.is_empty:
            raise InvalidKeyOption("budget", NO_BUDGET_WITHOUT_TEAM)
        return KeyOptions(
            team=self.team,
            name=self.name.strip(),
            scopes=tuple(dict.fromkeys(self.scopes)),
            lifetime_seconds=None if self.expires_in is None else _parse_lifetime(self.expires_in),
            policies=self.policies,
            limits=self.limits,
            budget=budget,
        )


class LimitChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The changed rate limits of an API key. null removes one."""

    requests_per_minute: Limit | UnsetType | None = UNSET
    images_per_minute: Limit | UnsetType | None = UNSET
    concurrent_jobs: Limit | UnsetType | None = UNSET


class ChangeKeyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The changes of an API key. Missing fields do not change. `budget`, `limits`: null removes all of them.
    `policies`: null for all of its team's. `expires_in`: from now on, like 90d; null if it does not expire."""

    name: str | UnsetType = UNSET
    budget: BudgetAmounts | UnsetType | None = UNSET
    limits: LimitChanges | UnsetType | None = UNSET
    policies: tuple[str, ...] | UnsetType | None = UNSET
    expires_in: str | UnsetType | None = UNSET

    def to_change(self) -> KeyChange:
        """Converts the request to a change. Raises InvalidKeyOption."""
        budget = _NO_BUDGET if self.budget is None else self.budget
        limits = _NO_LIMITS if self.limits is None else self.limits
        return KeyChange(
            name=self.name.strip() if isinstance(self.name, str) else UNSET,
            policies=self.policies,
            lifetime_seconds=_parse_lifetime(self.expires_in) if isinstance(self.expires_in, str) else self.expires_in,
            budget=budget.to_amounts() if isinstance(budget, BudgetAmounts) else {},
            limits=to_builtins(limits) if isinstance(limits, LimitChanges) else {},
        )


_NO_BUDGET = BudgetAmounts(day=None, week=None, month=None, lifetime=None)
_NO_LIMITS = LimitChanges(requests_per_minute=None, images_per_minute=None, concurrent_jobs=None)
# Options of a new key that do not change, and why.
FIXED_OPTIONS = {
    "scopes": "its clients would get other permissions. Create a key with these scopes, and revoke this one",
    "team": "its jobs and what it spent belong to its team. Create a key for the other team, and revoke this one",
}


class RotateKeyRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`overlap`: how long the old key still works, like 24h; 0 to end it at once."""

    overlap: str = DEFAULT_OVERLAP


def parse_duration(option: str, text: str) -> float:
    """Parses a duration like 30m, 24h or 90d. Returns seconds. Raises InvalidKeyOption."""
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match and match[1] else 0
    if match is None or seconds > MAX_DURATION_SECONDS:
        raise InvalidKeyOption(option, f"invalid duration '{text[:20]}'. Write it like 30m, 24h or 90d")
    return float(seconds)


def _parse_lifetime(text: str) -> float:
    if lifetime := parse_duration("expires_in", text):
        return lifetime
    raise InvalidKeyOption("expires_in", "must be longer than 0")


def serialize_key(listed: ListedKey, now: float) -> dict[str, Any]:
    """Serializes a key, without its secret or digests."""
    key = listed.key
    return {
        "object": "api_key",
        "id": key.id,
        "name": key.name,
        "team": key.team,
        "status": key.get_status(now),
        "scopes": [str(scope) for scope in key.scopes],
        "policies": None if key.policies is None else list(key.policies),
        "limits": to_builtins(key.limits),
        "budget": serialize_limits(key.budget),
        "created_at": int(key.created_at),
        "expires_at": _to_int(key.expires_at),
        "revoked_at": _to_int(key.revoked_at),
        "last_used_at": _to_int(listed.last_used_at),
        "replaces": key.replaces,
    }


def serialize_event(event: AdminEvent) -> dict[str, Any]:
    return {
        "object": "admin_event",
        "id": event.id,
        "created_at": int(event.at),
        "action": event.action,
        "actor": event.actor,
        "source": event.source,
        "key_id": event.key_id,
        "team": event.team,
        "details": event.details,
    }


def _to_int(timestamp: float | None) -> int | None:
    return None if timestamp is None else int(timestamp)
