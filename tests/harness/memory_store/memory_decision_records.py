"""The decision records of a store in memory. They outlive their jobs."""

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import Commit, list_budget_windows
from gateway.store.decision_records import (
    DecisionRecordPage,
    StoredDecisionRecord,
    clamp_page_size,
    compute_expiry,
    decode_cursor,
    make_page,
)


class MemoryRecord(Struct, frozen=True):
    """A record with the team of its job, and when the job was created."""

    stored: StoredDecisionRecord
    team: str
    created_at: float


class MemoryDecisionRecords:
    """Records by day and job id."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], MemoryRecord] = {}

    def apply_commit(self, commit: Commit) -> None:
        """Adds the record of a new job, or the outcome of a settled one."""
        job = commit.job
        key = list_budget_windows(job.created_at)[0], job.id
        if commit.decision_record is not None:
            stored = StoredDecisionRecord(job_id=job.id, record=commit.decision_record)
            self.records[key] = MemoryRecord(stored, job.team, job.created_at)
        if commit.job_outcome is not None and (record := self.records.get(key)):
            self.records[key] = replace(record, stored=replace(record.stored, outcome=commit.job_outcome))

    def load(self, job_id: str, day: str | None) -> StoredDecisionRecord | None:
        found = (record for key, record in self.records.items() if key[1] == job_id and day in (None, key[0]))
        return next((record.stored for record in found), None)

    def list_page(self, day: str, team: str | None, limit: int, cursor: str | None) -> DecisionRecordPage:
        last_id, page_size = decode_cursor(cursor), clamp_page_size(limit)
        records = [
            self.records[key].stored
            for key in sorted(self.records)
            if key[0] == day and key[1] > last_id and team in (None, self.records[key].team)
        ]
        return make_page(tuple(records[: page_size + 1]), page_size)

    def delete_expired(self, retention_seconds: float, now: float) -> None:
        self.records = {
            key: record
            for key, record in self.records.items()
            if compute_expiry(record.created_at, retention_seconds) > now
        }
