"""Changes of the options of an API key: only of those that an admin names."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType, to_builtins
from msgspec.structs import replace

from gateway.jobs.budgets import serialize_limits
from gateway.store.api_keys import ApiKey, format_time


class KeyChange(Struct, frozen=True, kw_only=True):
    """The changed options of an API key. UNSET: does not change.

    `policies`: None for all of its team's. `lifetime_seconds`: from now on; None if it does not expire. `budget`,
    `limits`: the changed windows and limits; None removes one. They are shared by all keys of a line of rotations.
    """

    name: str | UnsetType = UNSET
    policies: tuple[str, ...] | UnsetType | None = UNSET
    lifetime_seconds: float | UnsetType | None = UNSET
    budget: Mapping[str, int | None] = {}
    limits: Mapping[str, int | None] = {}

    def apply_to(self, key: ApiKey, now: float) -> ApiKey:
        """Returns the changed key."""
        changes: dict[str, Any] = {
            "name": self.name,
            "policies": self.policies,
            "lifetime_seconds": self.lifetime_seconds,
        }
        if self.lifetime_seconds is not UNSET:
            changes["expires_at"] = None if self.lifetime_seconds is None else now + self.lifetime_seconds
        named = {option: value for option, value in changes.items() if value is not UNSET}
        return replace(self.apply_to_line(key), **named)

    def apply_to_line(self, key: ApiKey) -> ApiKey:
        """Returns another key of the line, with the changes of what they share."""
        return replace(key, limits=replace(key.limits, **self.limits), budget=replace(key.budget, **self.budget))


def describe_changes(before: ApiKey, after: ApiKey) -> dict[str, dict[str, Any]]:
    """Describes what changed, from what to what, for the event."""
    old, new = dict(_list_options(before)), dict(_list_options(after))
    changed = [name for name in dict.fromkeys((*old, *new)) if old.get(name) != new.get(name)]
    return {name: {"from": old.get(name), "to": new.get(name)} for name in changed}


def _list_options(key: ApiKey) -> Iterator[tuple[str, Any]]:
    yield "name", key.name
    yield "policies", None if key.policies is None else list(key.policies)
    yield "expires_at", format_time(key.expires_at)
    yield from ((f"budget.{window}", amount) for window, amount in serialize_limits(key.budget).items())
    yield from ((f"limits.{name}", count) for name, count in to_builtins(key.limits).items())
