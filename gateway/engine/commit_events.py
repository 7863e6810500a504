"""Emits the events of a commit, and records its outcomes in health. Only the worker that committed does so, once."""

from typing import TypedDict

from msgspec.structs import replace

from gateway.engine.account_events import emit_if_newly_refused
from gateway.engine.engine_context import EngineContext
from gateway.engine.finished_order_cost import compute_expected_cost, is_price_mismatch
from gateway.events import (
    AttemptEnded,
    AttemptRecorded,
    FailoverStarted,
    JobEnded,
    LedgerEntryPosted,
    OrderAccepted,
    PriceMismatch,
)
from gateway.health.health_tracker import OrderOutcome
from gateway.jobs.commit import Commit, LedgerEntry
from gateway.jobs.job import Attempt, AttemptState, Job, RouteEntry, SellerResponse
from providers.faults import FaultKind
from providers.orders import Cell


def emit_commit_events(context: EngineContext, before: Job, commit: Commit) -> None:
    job = commit.job
    for attempt in job.attempts:
        previous = before.get_attempt(attempt.number)
        if previous is None:
            _emit_attempt_recorded(context, job, attempt)
        elif previous.state is AttemptState.OPENED and attempt.state is AttemptState.TICKETED:
            _emit_order_accepted(context, job, attempt, commit.committed_at)
        if not attempt.state.is_open and (previous is None or previous.state.is_open):
            _emit_attempt_ended(context, job, attempt)
    for entry in commit.ledger_entries:
        context.emit(_make_ledger_event(job, entry))
    if job.state.is_terminal and not before.state.is_terminal:
        context.open_jobs.remove(job.id)
        context.emit(_make_job_ended_event(job))


class JobFields(TypedDict):
    """The fields of a `JobEvent`."""

    at: float
    job: str
    config: str
    traceparent: str | None


class OfferFields(JobFields):
    """The fields of an `OfferEvent`."""

    seller: str
    cell: Cell


def identify_job(job: Job, at: float) -> JobFields:
    return JobFields(at=at, job=job.id, config=job.config_hash, traceparent=job.traceparent)


def identify_offer(job: Job, route_entry: RouteEntry, at: float) -> OfferFields:
    return OfferFields(**identify_job(job, at), seller=route_entry.seller, cell=route_entry.cell)


def _emit_attempt_recorded(context: EngineContext, job: Job, attempt: Attempt) -> None:
    route_entry = job.route_entry(attempt)
    offer_fields = identify_offer(job, route_entry, attempt.started_at)
    context.emit(AttemptRecorded(**offer_fields, attempt=attempt.number, images=len(attempt.images)))
    if attempt.number == 1:
        return
    earlier_attempts = [
        other for other in job.attempts[: attempt.number - 1] if set(other.images) & set(attempt.images)
    ]
    if earlier_attempts and earlier_attempts[-1].route_index != attempt.route_index:
        context.emit(_make_failover_event(job, earlier_attempts[-1], attempt))


def _emit_order_accepted(context: EngineContext, job: Job, attempt: Attempt, now: float) -> None:
    offer_fields = identify_offer(job, job.route_entry(attempt), now)
    context.emit(OrderAccepted(**offer_fields, attempt=attempt.number, seconds=now - attempt.started_at))


def _make_failover_event(job: Job, before: Attempt, after: Attempt) -> FailoverStarted:
    return FailoverStarted(
        **identify_job(job, after.started_at),
        attempt=after.number,
        from_seller=job.route_entry(before).seller,
        to_seller=job.route_entry(after).seller,
        reason=before.fault,
    )


def _emit_attempt_ended(context: EngineContext, job: Job, attempt: Attempt) -> None:
    route_entry, closed_at = job.route_entry(attempt), attempt.closed_at or attempt.started_at
    offer_fields, seconds = identify_offer(job, route_entry, closed_at), closed_at - attempt.started_at
    response = job.get_seller_response(attempt.number) or SellerResponse()
    offer = context.find_offer(route_entry, job.model)
    expected_latency = offer.expected_latency.get(route_entry.cell.quality) if offer else None
    context.emit(
        AttemptEnded(
            **offer_fields,
            attempt=attempt.number,
            team=job.team,
            model=job.model,
            images=len(attempt.images),
            delivered=attempt.delivered_count,
            seconds=seconds,
            expected_seconds=expected_latency.p90 if expected_latency else None,
            fault=attempt.fault,
            seller_status=response.status,
            seller_code=response.code,
            seller_message=response.message or None,
            seller_notes=response.notes or None,
        )
    )
    if attempt.fault is not None:
        record_health(context, job, attempt, OrderOutcome(fault=attempt.fault, elapsed_seconds=seconds))
    # An image's price is only known if all images that the seller charged were delivered.
    if not attempt.delivered_count or attempt.cost is None or attempt.fault not in (None, FaultKind.NO_IMAGES):
        return
    if key := context.get_health_key(route_entry, job.model):
        image_cost = attempt.cost - job.get_order_price(attempt.route_index)
        context.health.record_charge(key, image_cost // attempt.delivered_count, context.wall_clock())
    if offer is None:
        return
    expected_cost = compute_expected_cost(job, attempt, offer)
    if is_price_mismatch(attempt.cost, expected_cost, offer):
        context.emit(
            PriceMismatch(
                **offer_fields,
                attempt=attempt.number,
                model=job.model,
                expected_price=expected_cost // attempt.delivered_count,
                charged_price=attempt.cost // attempt.delivered_count,
                difference=attempt.cost - expected_cost,
            )
        )


def _make_ledger_event(job: Job, entry: LedgerEntry) -> LedgerEntryPosted:
    return LedgerEntryPosted(
        **identify_job(job, entry.posted_at),
        attempt=entry.attempt,
        team=entry.team,
        seller=entry.seller,
        model=entry.model,
        cell=entry.cell,
        line=entry.line,
        amount=entry.amount,
        images=entry.images,
        day=entry.day,
    )


def record_health(context: EngineContext, job: Job, attempt: Attempt, outcome: OrderOutcome) -> None:
    """Records the outcome of an order. The order limits already obey the Retry-After of the seller and supply it
    here."""
    if health_key := context.get_health_key(job.route_entry(attempt), job.model):
        account, now = health_key.account, context.wall_clock()
        retry_after = context.limits.get_remaining_pause(account)
        refusal = context.health.get_account_refusal(account, now)
        context.health.record(health_key, replace(outcome, retry_after=retry_after), now)
        emit_if_newly_refused(context, account, health_key.seller, refusal)


def _make_job_ended_event(job: Job) -> JobEnded:
    finished_at = job.finished_at or job.created_at
    ordered_at = job.attempts[0].started_at if job.attempts else finished_at
    return JobEnded(
        **identify_job(job, finished_at),
        team=job.team,
        model=job.model,
        cell=job.route[0].cell,
        state=job.state,
        delivered=len(job.delivered_images),
        images=job.n,
        seconds=finished_at - job.created_at,
        queued_seconds=ordered_at - job.created_at,
        sellers=tuple(job.route_entry(attempt).seller for attempt in job.attempts if attempt.delivered_count),
        captured_amount=job.captured_amount,
        fault=job.fault,
    )
