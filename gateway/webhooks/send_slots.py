"""How many webhooks are sent at the same time: in total, for each team and to each target, so that no target and no
team delays the others. The URLs that a team's jobs name are one target for each host.

A target gets one webhook after the other, so that a crash repeats no more than one of them. Only if those that are due
would take too long, it gets several at the same time.
"""

import math
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from gateway.webhooks.webhook_records import WebhookRecord

MAX_SENDS, MAX_TEAM_SENDS, MAX_TARGET_SENDS = 64, 32, 8
# To targets that fail: to all of them together, and to those of one team. Each of them has one slot.
MAX_FAILING_SENDS, MAX_FAILING_TEAM_SENDS = 32, 16
MAX_KNOWN_TARGETS = 1_000
# The weight of the newest attempt in the mean duration of a target's attempts.
NEWEST_WEIGHT = 0.3
# The duration that is assumed before the first attempt.
FIRST_SECONDS = 0.2
# Sends that share a limit: what they have in common, and the name of the team or target.
Group = tuple[str, str]
ALL, ALL_FAILING = ("all", ""), ("failing", "")


class _Target(Struct):
    """A target of this process's webhooks. `is_failing`: by its last attempt; None before the first one."""

    is_failing: bool | None = None
    mean_seconds: float = FIRST_SECONDS
    due_count: int = 0

    def count_slots(self, max_queue_seconds: float) -> int:
        if self.is_failing is not False:
            return 1
        return min(MAX_TARGET_SENDS, max(1, math.ceil(self.due_count * self.mean_seconds / max_queue_seconds)))


class SendSlots:
    """The slots of one process. Targets that fail share half of them, and a team gets half of each half: others always
    find free slots, also for targets that are not known yet."""

    def __init__(self, max_queue_seconds: float) -> None:
        self._max_queue_seconds = max_queue_seconds
        self._targets: dict[str, _Target] = {}
        self._sends = Counter[Group]()

    def set_due(self, due: Sequence[WebhookRecord]) -> None:
        """Sets which webhooks are due. `try_acquire` is called for one of them."""
        counts = Counter(_name_target(record) for record in due)
        for record in due:
            self._get_target(record).due_count = counts[_name_target(record)]

    def try_acquire(self, record: WebhookRecord) -> tuple[Group, ...]:
        """Takes a slot if one is free. Returns the groups that share it, for its release; none if no slot is free."""
        limits = {ALL: MAX_SENDS, ("team", record.team): MAX_TEAM_SENDS, **self._get_own_limits(record)}
        limits["target", _name_target(record)] = self._get_target(record).count_slots(self._max_queue_seconds)
        if self._is_failing(record):
            limits[ALL_FAILING] = MAX_FAILING_SENDS
        if any(self._sends[group] >= limit for group, limit in limits.items()):
            return ()
        self._sends.update(limits.keys())
        return tuple(limits)

    def release(self, groups: tuple[Group, ...]) -> None:
        self._sends.subtract(groups)
        for group in groups:
            if not self._sends[group]:
                del self._sends[group]

    def record_attempt(self, record: WebhookRecord, seconds: float, *, has_failed: bool) -> None:
        target = self._get_target(record)
        weight = NEWEST_WEIGHT if target.is_failing == has_failed else 1.0
        target.is_failing = has_failed
        target.mean_seconds += (seconds - target.mean_seconds) * weight

    def estimate_wait(self, record: WebhookRecord, queue: Counter[Group]) -> float:
        """Estimates after how many seconds a slot is free for the webhook behind those in the queue, if its target gets
        all slots that it may, and adds it to the queue."""
        limits, mean_seconds = self._get_own_limits(record), self._get_target(record).mean_seconds
        wait_seconds = max(queue[group] * mean_seconds / limit for group, limit in limits.items())
        queue.update(limits.keys())
        return wait_seconds

    def _get_own_limits(self, record: WebhookRecord) -> dict[Group, int]:
        """Returns the limits that the webhook shares with those of its own team or target alone."""
        if self._is_failing(record):
            return {
                ("target", _name_target(record)): 1,
                ("failing team", record.team): MAX_FAILING_TEAM_SENDS,
            }
        return {("target", _name_target(record)): MAX_TARGET_SENDS, ("team", record.team): MAX_TEAM_SENDS}

    def _is_failing(self, record: WebhookRecord) -> bool:
        """Before this process has sent anything to the target, the webhook's own attempts show whether it fails."""
        is_failing = self._get_target(record).is_failing
        return record.tries > 0 if is_failing is None else is_failing

    def _get_target(self, record: WebhookRecord) -> _Target:
        name = _name_target(record)
        if name not in self._targets and len(self._targets) >= MAX_KNOWN_TARGETS:
            self._targets = {known: target for known, target in self._targets.items() if self._sends[("target", known)]}
        return self._targets.setdefault(name, _Target())


def _name_target(record: WebhookRecord) -> str:
    return f"{record.team} {record.target or f'//{record.host}'}"
