"""How many webhooks are sent at the same time, in total and to each host, so that no host delays the others."""

from msgspec import Struct

MAX_SENDS, MAX_HOST_SENDS, MAX_FAILING_HOST_SENDS = 64, 8, 2
MAX_KNOWN_HOSTS = 1_000
# The weight of the newest attempt in the mean duration of a host's attempts.
NEWEST_WEIGHT = 0.3
# The duration that is assumed before the first attempt.
FIRST_SECONDS = 0.2


class _Host(Struct):
    """A host of this process's webhooks. `failures`: in a row."""

    sends: int = 0
    failures: int = 0
    mean_seconds: float = FIRST_SECONDS

    @property
    def max_sends(self) -> int:
        return MAX_FAILING_HOST_SENDS if self.failures else MAX_HOST_SENDS


class HostSlots:
    """The slots of one process. A host that fails gets fewer, so that many dead hosts leave slots to the others."""

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._sends = 0

    @property
    def is_full(self) -> bool:
        return self._sends >= MAX_SENDS

    def try_acquire(self, host: str) -> bool:
        """Takes a slot if one is free."""
        entry = self._get(host)
        if self.is_full or entry.sends >= entry.max_sends:
            return False
        entry.sends += 1
        self._sends += 1
        return True

    def release(self, host: str) -> None:
        self._get(host).sends -= 1
        self._sends -= 1

    def record_attempt(self, host: str, seconds: float, *, has_failed: bool) -> None:
        entry = self._get(host)
        entry.failures = entry.failures + 1 if has_failed else 0
        entry.mean_seconds += (seconds - entry.mean_seconds) * NEWEST_WEIGHT

    def estimate_wait(self, host: str, position: int) -> float:
        """Estimates after how many seconds a slot is free for the webhook at this position of the host's queue."""
        entry = self._get(host)
        return position * entry.mean_seconds / entry.max_sends

    def _get(self, host: str) -> _Host:
        if host not in self._hosts and len(self._hosts) >= MAX_KNOWN_HOSTS:
            self._hosts = {name: entry for name, entry in self._hosts.items() if entry.sends}
        return self._hosts.setdefault(host, _Host())
