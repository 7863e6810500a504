"""Decision records as a store keeps them: one for each accepted job, by the day that its id contains."""

from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from gateway.store.partitions import is_job_id

MAX_LISTED_RECORDS = 1_000


class StoredDecisionRecord(Struct, frozen=True, kw_only=True):
    """The record of a job, encoded. `outcome`: how the job ended; None until it is settled."""

    job_id: str
    record: bytes
    outcome: bytes | None = None


class DecisionRecordPage(Struct, frozen=True):
    """A page of records. `next_cursor` is None on the last page."""

    records: tuple[StoredDecisionRecord, ...]
    next_cursor: str | None


class _RecordedQuery(Struct):
    team: str | None = None


class _RecordWithTeam(Struct):
    """The only part of a record that a store reads."""

    query: _RecordedQuery


_team_decoder = msgspec.json.Decoder(_RecordWithTeam)


def read_team(record: bytes) -> str | None:
    """Reads the team of an encoded record."""
    return _team_decoder.decode(record).query.team


def compute_expiry(day: str, retention_seconds: float) -> float:
    """Returns when the records of a day expire: `retention_seconds` after its end."""
    day_end = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
    return day_end.timestamp() + retention_seconds


def first_kept_day(now: float, retention_seconds: float) -> str:
    """Returns the first day that has not expired."""
    return datetime.fromtimestamp(now - retention_seconds, UTC).date().isoformat()


def decode_cursor(cursor: str | None) -> str:
    """Returns the last job id of the previous page; empty for the first page. Raises ValueError if it is invalid."""
    if cursor is not None and not is_job_id(cursor):
        raise ValueError("Invalid cursor. Use the one from the previous page.")
    return cursor or ""


def make_page(records: tuple[StoredDecisionRecord, ...], page_size: int) -> DecisionRecordPage:
    """Makes the page from its records in the order of their ids, and one more if there is another page."""
    page = records[:page_size]
    return DecisionRecordPage(page, page[-1].job_id if len(records) > page_size else None)


def clamp_page_size(limit: int) -> int:
    return max(1, min(MAX_LISTED_RECORDS, limit))
