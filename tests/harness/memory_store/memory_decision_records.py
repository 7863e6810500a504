"""The decision records of a store in memory. They outlive their jobs."""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import Commit
from gateway.store.decision_record_pages import (
    DecisionRecordPage,
    StoredDecisionRecord,
    clamp_page_size,
    compute_expiry,
    decode_cursor,
    make_page,
)
from gateway.store.partitions import get_job_day


class MemoryRecord(Struct, frozen=True):
    """A record with the team of its job."""

    stored: StoredDecisionRecord
    team: str


class MemoryDecisionRecords:
    """Records by job id."""

    def __init__(self) -> None:
        self.records: dict[str, MemoryRecord] = {}

    def apply_commit(self, commit: Commit) -> None:
        """Adds the record of a new job, or the outcome of a settled one."""
        job = commit.job
        if commit.decision_record is not None:
            stored = StoredDecisionRecord(job_id=job.id, record=commit.decision_record)
            self.records[job.id] = MemoryRecord(stored, job.team)
        if commit.job_outcome is not None and (record := self.records.get(job.id)):
            self.records[job.id] = replace(record, stored=replace(record.stored, outcome=commit.job_outcome))

    def load(self, job_id: str) -> StoredDecisionRecord | None:
        record = self.records.get(job_id)
        return record.stored if record else None

    def list_page(self, day: str, team: str | None, limit: int, cursor: str | None) -> DecisionRecordPage:
        last_id, page_size = decode_cursor(cursor), clamp_page_size(limit)
        records = [
            record.stored
            for job_id, record in sorted(self.records.items())
            if get_job_day(job_id) == day and job_id > last_id and team in (None, record.team)
        ]
        return make_page(tuple(records[: page_size + 1]), page_size)

    def delete(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            self.records.pop(job_id, None)

    def delete_expired(self, retention_seconds: float, now: float) -> None:
        self.records = {
            job_id: record
            for job_id, record in self.records.items()
            if compute_expiry(get_job_day(job_id), retention_seconds) > now
        }
