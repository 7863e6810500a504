"""Remembers first requests of SDKs that this process refused before they became jobs.

The store has no record of them. Without this, the job of such a request's retry would wait for a first request that
has already come.
"""

from collections.abc import Callable

from msgspec.structs import replace

from gateway.jobs.commit import BODY_KEY_TTL_SECONDS, IdempotencyRecord

# Limits: distinct bodies of all teams, and refused requests of one body.
MAX_BODIES, MAX_REQUESTS = 1_000, 32


class RefusedRequests:
    """Keeps each refused request until a retry follows it, for two minutes at most."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._refused_at: dict[tuple[str, str], list[float]] = {}

    def add(self, team: str, record: IdempotencyRecord) -> None:
        """Adds a first request, or a retry that followed one: the next retry follows the same."""
        if not record.is_body_key or not (record.retry_count == 0 or record.has_refused_first):
            return
        moments = self._refused_at.pop((team, record.key), [])
        self._refused_at[team, record.key] = [*moments, self._now()][-MAX_REQUESTS:]
        if len(self._refused_at) > MAX_BODIES:
            del self._refused_at[next(iter(self._refused_at))]

    def follow(self, team: str, record: IdempotencyRecord) -> IdempotencyRecord:
        """Returns the record to store with a new job: it notes whether the job's first request was refused."""
        if not record.is_retry or not (moments := self._refused_at.pop((team, record.key), [])):
            return record
        moments = [moment for moment in moments if moment > self._now() - BODY_KEY_TTL_SECONDS]
        if moments[1:]:
            self._refused_at[team, record.key] = moments[1:]
        return replace(record, has_refused_first=bool(moments))
