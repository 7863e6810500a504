"""What admins send and get: by the admin API as JSON, and by the command line."""

import re
from typing import Any

from msgspec import Struct, to_builtins

from gateway.access.key_administration import CommonKeyOptions, InvalidKeyOption, KeyOptions, ListedKey
from gateway.jobs.budgets import BudgetLimits, WindowKind, serialize_limits
from gateway.money import parse_usd
from gateway.store.api_keys import AdminEvent

DEFAULT_OVERLAP = "24h"
_DURATION = re.compile(r"([1-9]\d{0,5})([smhd])|0", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MAX_DURATION_SECONDS = 3_650 * 86_400


class BudgetAmounts(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budget of a new API key, in USD like "5.00". None if a window is not limited."""

    day: str | None = None
    week: str | None = None
    month: str | None = None
    lifetime: str | None = None

    def to_limits(self) -> BudgetLimits:
        """Converts the amounts. Raises InvalidKeyOption."""
        texts = {kind.value: getattr(self, kind) for kind in WindowKind}
        return BudgetLimits(**{name: _parse_amount(name, text) for name, text in texts.items() if text is not None})


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
        lifetime = None if self.expires_in is None else parse_duration("expires_in", self.expires_in)
        if lifetime == 0:
            raise InvalidKeyOption("expires_in", "must be longer than 0")
        budget = self.budget.to_limits()
        if self.team is None and not budget.is_empty:
            raise InvalidKeyOption("budget", "a key without a team cannot order, and has no budget")
        return KeyOptions(
            team=self.team,
            name=self.name.strip(),
            scopes=tuple(dict.fromkeys(self.scopes)),
            lifetime_seconds=lifetime,
            policies=self.policies,
            limits=self.limits,
            budget=budget,
        )


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
