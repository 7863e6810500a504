"""How a job ends for its team: with which state, for what reason, and with what it is warned of."""

from msgspec.structs import replace

from gateway.jobs.job import Job, PartState, State
from providers.faults import VERDICTS, FaultKind

MOST_WARNINGS, LONGEST_WARNING = 12, 200


def concluded(job: Job, now: float) -> Job:
    """Terminal as soon as no image is waited for any more."""
    if job.state.is_terminal or any(part.state.is_open for part in job.parts):
        return job
    there, warnings = len(job.delivered), job.warnings
    if 0 < there < job.n:
        warnings = joined(warnings, (f"partial_delivery: {there} of {job.n} images",))
    fault = None if there == job.n else _worst(job)
    return replace(job, state=_final_state(job, there), finished=now, warnings=warnings, fault=fault)


def _final_state(job: Job, there: int) -> State:
    if job.cancel_asked or job.withdrawn:
        return State.CANCELLED
    if there:
        return State.COMPLETED
    return State.EXPIRED if job.overdue else State.FAILED


def _worst(job: Job) -> FaultKind | None:
    """The fault that a team sees for missing images: a content refusal before any other, and passing faults last."""
    seen = [part.fault for part in job.parts if part.fault is not None and part.state is not PartState.DELIVERED]
    return min(seen, key=_rank, default=None)


def _rank(fault: FaultKind) -> tuple[bool, bool]:
    return fault is not FaultKind.CONTENT_REFUSED, VERDICTS[fault].passes


def joined(known: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return (*known, *(word[:LONGEST_WARNING] for word in dict.fromkeys(more) if word not in known))[:MOST_WARNINGS]
