"""Completes a job: final state, fault and warnings."""

from msgspec.structs import replace

from gateway.jobs.job import Job, JobState, PartState
from providers.faults import CONTENT_FAULTS, VERDICTS, FaultKind

MAX_WARNINGS, MAX_WARNING_LENGTH = 12, 200


def complete_if_done(job: Job, now: float) -> Job:
    """Makes the job terminal if no part is open."""
    if job.state.is_terminal or any(part.state.is_open for part in job.parts):
        return job
    delivered_count, warnings = len(job.delivered_images), job.warnings
    if 0 < delivered_count < job.n:
        warnings = merge_warnings(warnings, (f"partial_delivery: {delivered_count} of {job.n} images",))
    fault = None if delivered_count == job.n else _choose_fault(job)
    return replace(
        job,
        state=_select_final_state(job, delivered_count),
        # The clock of the replica that created the job may be ahead.
        finished_at=max(job.created_at, now),
        warnings=warnings,
        fault=fault,
    )


def _select_final_state(job: Job, delivered_count: int) -> JobState:
    if job.is_cancel_requested or job.is_withdrawn:
        return JobState.CANCELLED
    if delivered_count:
        return JobState.COMPLETED
    return JobState.EXPIRED if job.is_overdue else JobState.FAILED


def _choose_fault(job: Job) -> FaultKind | None:
    """Returns the fault that the team sees: content refusals first, temporary faults last."""
    faults = [part.fault for part in job.parts if part.fault is not None and part.state is not PartState.DELIVERED]
    return min(faults, key=_fault_priority, default=None)


def _fault_priority(fault: FaultKind) -> tuple[bool, bool]:
    return fault not in CONTENT_FAULTS, VERDICTS[fault].is_transient


def merge_warnings(known: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    added = [warning[:MAX_WARNING_LENGTH] for warning in dict.fromkeys(more) if warning not in known]
    return (*known, *added)[:MAX_WARNINGS]
