"""The outcome of a settled job, which is added to its decision record: prompt-free, and kept longer than the job."""

import msgspec
from msgspec import Struct

from gateway.jobs.job import Attempt, Job, JobState
from providers.faults import FaultKind


class AttemptOutcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an order ended. `cost`: booked for it, on all ledger lines."""

    seller: str
    images: int
    delivered: int = 0
    fault: FaultKind | None = None
    seconds: float | None = None
    cost: int = 0


class JobOutcome(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a job ended. `seconds`: until its final state. The amounts, in micro-USD, are those of its ledger lines."""

    state: JobState
    seconds: float
    delivered: int = 0
    fault: FaultKind | None = None
    captured: int = 0
    orphan: int = 0
    suspected: int = 0
    excess: int = 0
    attempts: tuple[AttemptOutcome, ...] = ()


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(JobOutcome)


def make_job_outcome(job: Job) -> JobOutcome:
    """Makes the outcome of a settled job. A later correction of its cost makes a new one."""
    orphan = suspected = 0
    for attempt in job.attempts:
        orphan += attempt.orphaned_amount
        suspected += attempt.suspected_amount
    return JobOutcome(
        state=job.state,
        seconds=round((job.finished_at or job.created_at) - job.created_at, 3),
        delivered=len(job.delivered_images),
        fault=job.fault,
        captured=job.captured_amount,
        orphan=orphan,
        suspected=suspected,
        excess=sum([excess.amount for excess in job.excesses]),
        attempts=tuple([_make_attempt_outcome(job, attempt) for attempt in job.attempts]),
    )


def _make_attempt_outcome(job: Job, attempt: Attempt) -> AttemptOutcome:
    booked = attempt.captured_amount + attempt.orphaned_amount + attempt.suspected_amount
    return AttemptOutcome(
        seller=job.route[attempt.route_index].seller,
        images=len(attempt.images),
        delivered=attempt.delivered_count,
        fault=attempt.fault,
        seconds=None if attempt.closed_at is None else round(attempt.closed_at - attempt.started_at, 3),
        cost=booked + job.get_excess(attempt.number),
    )


def encode_job_outcome(outcome: JobOutcome) -> bytes:
    return _encode(outcome)


def decode_job_outcome(data: bytes) -> JobOutcome:
    return _decoder.decode(data)
