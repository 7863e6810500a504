"""Deletes what some teams keep for a shorter time than all teams: decision records and ledger entries."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, date, datetime, timedelta

from gateway.store.base import DAY_SECONDS, Store
from gateway.store.decision_record_pages import first_kept_day

# The number of records to read and delete at once. In SQLite, other writes wait for the deletion.
DELETE_BATCH_RECORDS = 200
_DAY = timedelta(days=1)
# Redis keeps ledger entries until this time after the end of their month.
_MONTH_SECONDS = 31 * DAY_SECONDS
# The seconds by team, of the present configuration; teams without a time of their own are missing.
TeamRetentions = Callable[[], Mapping[str, float]]


class ExpiredTeamDays:
    """The days of a kind of data that its team keeps no longer.

    `kept_seconds`: how long the store keeps them for other teams. `delete_day` deletes those of a team and a day.
    `find_limit`: the day from which nothing may be deleted yet.
    """

    def __init__(
        self,
        delete_day: Callable[[str, str], Awaitable[None]],
        kept_seconds: float,
        list_team_retentions: TeamRetentions,
        wall_clock: Callable[[], float],
        find_limit: Callable[[], Awaitable[date]] | None = None,
    ) -> None:
        self._delete_day, self._kept_seconds, self._find_limit = delete_day, kept_seconds, find_limit
        self._list_team_retentions, self._wall_clock = list_team_retentions, wall_clock
        # By team: the day before which this process has deleted everything.
        self._deleted_before: dict[str, date] = {}

    async def delete(self) -> None:
        """Deletes days that expired since the last call; in the first call, all that the store keeps for other teams.
        Everything is kept for the time of its team after the end of its day."""
        for team, retention_seconds in self._list_team_retentions().items():
            now = self._wall_clock()
            oldest = _to_first_kept_day(now, self._kept_seconds)
            end = _to_first_kept_day(now, retention_seconds)
            deleted_before = self._deleted_before.get(team, oldest)
            if end > deleted_before and self._find_limit is not None:
                end = min(end, await self._find_limit())
            if end <= deleted_before:
                continue
            # The job of a request around midnight may be created when its day has been deleted.
            day = max(oldest, deleted_before - _DAY)
            while day < end:
                await self._delete_day(day.isoformat(), team)
                day += _DAY
            self._deleted_before[team] = end


def make_expired_decision_records(
    store: Store, list_team_retentions: TeamRetentions, wall_clock: Callable[[], float]
) -> ExpiredTeamDays:
    async def delete_day(day: str, team: str) -> None:
        cursor = None
        while True:
            page = await store.list_decision_records(day, team, DELETE_BATCH_RECORDS, cursor)
            if page.records:
                await store.delete_decision_records(*(record.job_id for record in page.records))
            if (cursor := page.next_cursor) is None:
                return

    return ExpiredTeamDays(delete_day, store.retention.decisions, list_team_retentions, wall_clock)


def make_expired_ledger_entries(
    store: Store, list_team_retentions: TeamRetentions, wall_clock: Callable[[], float]
) -> ExpiredTeamDays:
    """Entries of days that are still audited are kept: without them, the audit would correct the totals."""

    async def find_first_audited_day() -> date:
        now, backlog = wall_clock(), await store.statistics.read_backlog()
        oldest_job_at = now - max(backlog.oldest_seconds, DAY_SECONDS)
        return datetime.fromtimestamp(oldest_job_at, UTC).date()

    kept_seconds = store.retention.ledger + _MONTH_SECONDS
    return ExpiredTeamDays(
        store.delete_ledger_entries, kept_seconds, list_team_retentions, wall_clock, find_first_audited_day
    )


def _to_first_kept_day(now: float, retention_seconds: float) -> date:
    return date.fromisoformat(first_kept_day(now, retention_seconds))
