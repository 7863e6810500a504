"""The audit of decision records: one for each accepted job, with its route, and with an outcome that equals the
ledger."""

from collections import Counter
from collections.abc import Iterator

from gateway.engine.job_creation import MAX_ROUTE_LENGTH
from gateway.jobs.commit import LedgerEntry
from gateway.jobs.job import Attempt, Job
from gateway.jobs.job_outcome import JobOutcome, decode_job_outcome
from gateway.jobs.transition_tables import LedgerLine
from gateway.routing.decision_record import decode_decision_record
from tests.explore.replica import World


def list_record_violations(world: World) -> Iterator[str]:
    records = world.state.decision_records.records
    for job_id in records.keys() - world.state.jobs.keys():
        yield f"decision record: {job_id} has one, but no job was accepted"
    for job_id, stored in world.state.jobs.items():
        if job_id not in records:
            yield f"decision record: {job_id} has none"
            continue
        record = records[job_id].stored
        yield from _check_route(stored.job, record.record)
        if record.outcome is None:
            yield f"decision record: {job_id} has no outcome"
        else:
            yield from _check_outcome(world, stored.job, decode_job_outcome(record.outcome))


def _check_route(job: Job, record: bytes) -> Iterator[str]:
    recorded = [ranked.seller for ranked in decode_decision_record(record).ranked]
    route = [route_entry.seller for route_entry in job.route]
    if recorded[:MAX_ROUTE_LENGTH] != route:
        yield f"decision record: the route of {job.id} is {route}, its record says {recorded}"


def _check_outcome(world: World, job: Job, outcome: JobOutcome) -> Iterator[str]:
    entries = [entry for entry in world.state.ledger.entries if entry.job == job.id]
    expected = {
        "state": job.state,
        "delivered": len(job.delivered_images),
        "captured": _sum_line(entries, LedgerLine.CAPTURE),
        "orphan": _sum_line(entries, LedgerLine.ORPHAN),
        "suspected": _sum_line(entries, LedgerLine.SUSPECTED),
        "excess": _sum_line(entries, LedgerLine.EXCESS),
        "attempts": [_describe_attempt(job, attempt, entries) for attempt in job.attempts],
    }
    recorded = {name: getattr(outcome, name) for name in expected} | {
        "attempts": [
            (attempt.seller, attempt.images, attempt.delivered, attempt.fault, attempt.seconds, attempt.cost)
            for attempt in outcome.attempts
        ]
    }
    for name, value in expected.items():
        if recorded[name] != value:
            yield f"decision record: {name} of {job.id} is {value}, its record says {recorded[name]}"
    if any((attempt.seconds or 0.0) < 0.0 for attempt in outcome.attempts):
        yield f"decision record: an attempt of {job.id} ended before it began: {recorded['attempts']}"


def _sum_line(entries: list[LedgerEntry], line: LedgerLine) -> int:
    return sum(entry.amount for entry in entries if entry.line is line)


def _describe_attempt(job: Job, attempt: Attempt, entries: list[LedgerEntry]) -> tuple[object, ...]:
    """Describes an attempt by the ledger and the delivered images."""
    delivered_count = Counter(job.delivering_attempts.values())[attempt.number]
    seconds = None if attempt.closed_at is None else round(attempt.closed_at - attempt.started_at, 3)
    cost = sum(entry.amount for entry in entries if entry.attempt == attempt.number)
    seller = job.route_entry(attempt).seller
    return seller, len(attempt.images), delivered_count, attempt.fault, seconds, cost
