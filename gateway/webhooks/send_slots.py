"""How many webhooks are sent at the same time: in total, for each team and to each host, so that no host and no team
delays the others."""

from collections import Counter

from msgspec import Struct

from gateway.webhooks.webhook_records import WebhookRecord

MAX_SENDS, MAX_TEAM_SENDS, MAX_HOST_SENDS = 64, 32, 8
# To hosts that fail: to all of them together, to those of one team, and to one.
MAX_FAILING_SENDS, MAX_FAILING_TEAM_SENDS, MAX_FAILING_HOST_SENDS = 32, 16, 2
MAX_KNOWN_HOSTS = 1_000
# The weight of the newest attempt in the mean duration of a host's attempts.
NEWEST_WEIGHT = 0.3
# The duration that is assumed before the first attempt.
FIRST_SECONDS = 0.2
# Sends that share a limit: what they have in common, and the name of the team or host.
Group = tuple[str, str]
ALL, ALL_FAILING = ("all", ""), ("failing", "")


class _Host(Struct):
    """A host of this process's webhooks. `is_failing`: by its last attempt; None before the first one."""

    is_failing: bool | None = None
    mean_seconds: float = FIRST_SECONDS


class SendSlots:
    """The slots of one process. Hosts that fail share half of them, and a team gets half of each half: others always
    find free slots, also for hosts that are not known yet."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._sends = Counter[Group]()

    def try_acquire(self, record: WebhookRecord) -> tuple[Group, ...]:
        """Takes a slot if one is free. Returns the groups that share it, for its release; none if no slot is free."""
        limits = {ALL: MAX_SENDS, ("team", record.team): MAX_TEAM_SENDS, **self._get_own_limits(record)}
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

    def record_attempt(self, host: str, seconds: float, *, has_failed: bool) -> None:
        entry = self._get(host)
        entry.is_failing = has_failed
        entry.mean_seconds += (seconds - entry.mean_seconds) * NEWEST_WEIGHT

    def estimate_wait(self, record: WebhookRecord, queue: Counter[Group]) -> float:
        """Estimates after how many seconds a slot is free for the webhook behind those in the queue, and adds it to
        the queue."""
        limits, mean_seconds = self._get_own_limits(record), self._get(record.host).mean_seconds
        wait_seconds = max(queue[group] * mean_seconds / limit for group, limit in limits.items())
        queue.update(limits.keys())
        return wait_seconds

    def _get_own_limits(self, record: WebhookRecord) -> dict[Group, int]:
        """Returns the limits that the webhook shares with those of its own team or host alone."""
        if self._is_failing(record):
            return {
                ("host", record.host): MAX_FAILING_HOST_SENDS,
                ("failing team", record.team): MAX_FAILING_TEAM_SENDS,
            }
        return {("host", record.host): MAX_HOST_SENDS, ("team", record.team): MAX_TEAM_SENDS}

    def _is_failing(self, record: WebhookRecord) -> bool:
        """Before this process has sent anything to the host, the webhook's own attempts show whether it fails."""
        is_failing = self._get(record.host).is_failing
        return record.tries > 0 if is_failing is None else is_failing

    def _get(self, host: str) -> _Host:
        if host not in self._hosts and len(self._hosts) >= MAX_KNOWN_HOSTS:
            self._hosts = {name: entry for name, entry in self._hosts.items() if self._sends[("host", name)]}
        return self._hosts.setdefault(host, _Host())
