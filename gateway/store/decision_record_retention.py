"""Deletes the decision records of teams that keep them for a shorter time than all teams."""

from collections.abc import Callable, Mapping
from datetime import date, timedelta

from gateway.store.base import Store
from gateway.store.decision_record_pages import first_kept_day

# The number of records to read and delete at once. In SQLite, other writes wait for the deletion.
DELETE_BATCH_RECORDS = 200
_DAY = timedelta(days=1)


class OldDecisionRecords:
    """The decision records whose team keeps them no longer. `list_team_retentions`: the seconds by team, of the present
    configuration; teams without a time of their own are missing."""

    def __init__(
        self, store: Store, list_team_retentions: Callable[[], Mapping[str, float]], wall_clock: Callable[[], float]
    ) -> None:
        self._store, self._list_team_retentions, self._wall_clock = store, list_team_retentions, wall_clock
        # By team: the day before which this process has deleted all records.
        self._deleted_before: dict[str, date] = {}

    async def delete(self) -> None:
        """Deletes days that expired since the last call; in the first call, all that the store keeps for other teams.
        Each record is kept for the time of its team after the end of its day."""
        for team, retention_seconds in self._list_team_retentions().items():
            now = self._wall_clock()
            oldest = _to_first_kept_day(now, self._store.retention.decisions)
            end = _to_first_kept_day(now, retention_seconds)
            if end <= (deleted_before := self._deleted_before.get(team, oldest)):
                continue
            # The job of a request around midnight may be created when its day has been deleted.
            day = max(oldest, deleted_before - _DAY)
            while day < end:
                await self._delete_day(team, day.isoformat())
                day += _DAY
            self._deleted_before[team] = end

    async def _delete_day(self, team: str, day: str) -> None:
        cursor = None
        while True:
            page = await self._store.list_decision_records(day, team, DELETE_BATCH_RECORDS, cursor)
            if page.records:
                await self._store.delete_decision_records(*(record.job_id for record in page.records))
            if (cursor := page.next_cursor) is None:
                return


def _to_first_kept_day(now: float, retention_seconds: float) -> date:
    return date.fromisoformat(first_kept_day(now, retention_seconds))
