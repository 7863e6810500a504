"""Records first requests of SDKs that this process refused before a job was created for them.

The store has no record of these requests. When the SDK retries, the new job would otherwise wait for a first request
that already arrived.
"""

from collections.abc import Callable

from msgspec.structs import replace

from gateway.jobs.commit import BODY_KEY_TTL_SECONDS, IdempotencyRecord

# Limits: distinct bodies of all teams, and refused requests of one body.
MAX_BODIES, MAX_REQUESTS = 1_000, 32


class RefusedRequestsAwaitingRetry:
    """The refused requests. Each is kept until a retry follows it, or for two minutes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._refused_at: dict[tuple[str, str], list[float]] = {}

    def add_refused_request(self, team: str, record: IdempotencyRecord) -> None:
        """Adds a refused first request. A refused retry of a refused first request is added as well, for the next
        retry."""
        if not record.is_body_key or not (record.retry_count == 0 or record.has_refused_first):
            return
        moments = self._refused_at.pop((team, record.key), [])
        self._refused_at[team, record.key] = [*moments, self._now()][-MAX_REQUESTS:]
        if len(self._refused_at) > MAX_BODIES:
            del self._refused_at[next(iter(self._refused_at))]

    def mark_refused_first(self, team: str, record: IdempotencyRecord) -> IdempotencyRecord:
        """Returns the record to store with a new job. It states whether the first request of that job was refused."""
        if not record.is_retry or not (moments := self._refused_at.pop((team, record.key), [])):
            return record
        moments = [moment for moment in moments if moment > self._now() - BODY_KEY_TTL_SECONDS]
        if moments[1:]:
            self._refused_at[team, record.key] = moments[1:]
        return replace(record, has_refused_first=bool(moments))
