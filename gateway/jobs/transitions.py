"""Applies updates to a job. Pure. Every update is defined in every state: it gives a new job, or is ignored.

Costs are in `attempt_costs.py`.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs import job_update_types
from gateway.jobs.attempt_costs import (
    Booking,
    attempt_cost,
    close_attempt,
    compute_booking,
    get_charge_status,
    set_booking,
)
from gateway.jobs.job import Attempt, AttemptState, Excess, Job, JobState, Part, PartState, TokenCount, round_timestamp
from gateway.jobs.job_completion import complete_if_done, merge_warnings
from gateway.jobs.part_and_attempt_edits import (
    drop_waiting_parts,
    find_waiting_part,
    remove_images,
    replace_attempt,
    replace_parts,
)
from gateway.jobs.seller_response_recorder import record_seller_response
from gateway.jobs.seller_retry_times import add_retry_time, can_retry
from gateway.jobs.transition_tables import LedgerLine, part_state_after
from providers.faults import VERDICTS, ChargeStatus, FaultKind, PollPolicy
from providers.order_status import TokenUsage


class Ignored(Struct, frozen=True):
    """The update changes nothing, for this reason."""

    reason: str


TransitionResult = Job | Ignored
_NOT_WAITING = Ignored("these images do not belong to one waiting part")
_IMAGES_EXIST = Ignored("the images exist, so only their expiry ends this attempt")


def apply_update(job: Job, update: job_update_types.JobUpdate, now: float) -> TransitionResult:
    """Returns the job after the update."""
    changed = _TRANSITIONS[type(update)](job, update, now)
    if isinstance(changed, Ignored):
        return changed
    if changed == job:
        return Ignored("nothing new")
    return complete_if_done(changed, now)


# --- facts


def _apply_ticket_received(job: Job, fact: job_update_types.TicketReceived, now: float) -> TransitionResult:
    if not (attempt := job.get_attempt(fact.attempt)):
        return Ignored("no such attempt")
    if attempt.ticket is not None:
        return Ignored("nothing new" if attempt.ticket == fact.ticket else "this attempt has another ticket")
    state = AttemptState.TICKETED if attempt.state.is_open else attempt.state
    return replace_attempt(job, replace(attempt, ticket=fact.ticket, state=state, response_lost_at=None))


def _apply_response_lost(job: Job, fact: job_update_types.ResponseLost, now: float) -> TransitionResult:
    attempt = job.get_attempt(fact.attempt)
    if not attempt or not attempt.state.is_open or attempt.images_ready or job.can_poll(attempt):
        return Ignored("the attempt does not wait for a response")
    if attempt.response_lost_at is not None:
        return Ignored("nothing new")
    if VERDICTS[fact.fault].charge_status is not ChargeStatus.UNKNOWN:
        return Ignored("this fault does not mean a lost response")
    job = replace_attempt(job, replace(attempt, response_lost_at=round_timestamp(now), fault=fact.fault))
    return record_seller_response(job, attempt.number, fact.seller_response)


def _apply_callback_received(job: Job, fact: job_update_types.CallbackReceived, now: float) -> TransitionResult:
    if not (attempt := job.get_attempt(fact.attempt)):
        return Ignored("no such attempt")
    if attempt.callback_at is not None or not attempt.state.is_open:
        return Ignored("nothing new")
    return replace_attempt(job, replace(attempt, callback_at=round_timestamp(now)))


def _apply_images_ready(job: Job, fact: job_update_types.ImagesReady, now: float) -> TransitionResult:
    if not (attempt := job.get_attempt(fact.attempt)):
        return Ignored("no such attempt")
    cost = _get_ready_cost(job, attempt, fact)
    if not attempt.state.is_open:
        return _correct_cost(job, attempt, (LedgerLine.ORPHAN, attempt_cost(job, attempt, cost)))
    if not job.find_part(attempt.number):
        return _close_late(job, attempt, cost, None, now)
    job = _record_tokens(job, attempt, fact.usage)
    job = replace_attempt(
        job,
        replace(
            attempt,
            images_ready=True,
            response_lost_at=None,
            cost=cost,
            image_urls=fact.image_urls or attempt.image_urls,
        ),
    )
    return record_seller_response(job, attempt.number, fact.seller_response)


def _get_ready_cost(job: Job, attempt: Attempt, fact: job_update_types.ImagesReady) -> int | None:
    """Returns the cost that the seller reported, or else the price of its images if it made fewer than were ordered.

    It is kept with the attempt, since it is booked even if the images expire or come too late.
    """
    reported_cost = attempt.cost if fact.cost is None else fact.cost
    if reported_cost is None and fact.made_count is not None and fact.made_count < len(attempt.images):
        return attempt_cost(job, attempt, None, fact.made_count)
    return reported_cost


def _apply_images_stored(job: Job, fact: job_update_types.ImagesStored, now: float) -> TransitionResult:
    if not (attempt := job.get_attempt(fact.attempt)):
        return Ignored("no such attempt")
    cost = attempt.cost if fact.cost is None else fact.cost
    if not attempt.state.is_open:
        return _correct_cost(job, attempt, (LedgerLine.ORPHAN, attempt_cost(job, attempt, cost, fact.made_count)))
    if not (part := job.find_part(attempt.number)):
        return _close_late(job, attempt, cost, fact.made_count, now)
    delivered = tuple(image for image in attempt.images if image in fact.images)
    made_count = max(len(attempt.images) if fact.made_count is None else fact.made_count, len(delivered))
    total_cost = attempt_cost(job, attempt, cost, made_count)
    delivered_cost = total_cost * len(delivered) // made_count if made_count else 0
    missing_fault = None if len(delivered) == len(attempt.images) else fact.missing_fault
    updated = _end_part(job, part, delivered, missing_fault, now)
    # At most the released hold: the sum of spent and held amounts never grows after the job was created.
    captured_amount = min(delivered_cost, job.hold - updated.hold)
    closed_attempt = close_attempt(attempt, missing_fault, cost, now, (LedgerLine.ORPHAN, total_cost - delivered_cost))
    closed_attempt = replace(
        closed_attempt, images_ready=True, delivered_count=len(delivered), captured_amount=captured_amount
    )
    updated = replace_attempt(_record_tokens(updated, attempt, fact.usage), closed_attempt)
    updated = record_seller_response(updated, attempt.number, fact.seller_response)
    warnings = merge_warnings(job.warnings, fact.warnings if delivered else ())
    excesses = (
        (*job.excesses, Excess(attempt.number, delivered_cost - captured_amount))
        if delivered_cost > captured_amount
        else job.excesses
    )
    return replace(updated, warnings=warnings, excesses=excesses)


def _apply_order_failed(job: Job, fact: job_update_types.OrderFailed, now: float) -> TransitionResult:
    if not (attempt := job.get_attempt(fact.attempt)):
        return Ignored("no such attempt")
    if fact.is_rejection and attempt.ticket is not None:
        return Ignored("another sending of this order was accepted")
    charge_status = get_charge_status(fact.fault, fact.cost)
    if attempt.state.is_open and attempt.images_ready and charge_status is not ChargeStatus.CHARGED:
        return _IMAGES_EXIST
    if attempt.state.is_open:
        job = add_retry_time(job, attempt.number, fact.fault, fact.retry_after, now)
        job = _close_without_images(job, attempt, fact.fault, fact.cost, now)
        return record_seller_response(job, attempt.number, fact.seller_response)
    is_conclusive = VERDICTS[fact.fault].poll_policy is PollPolicy.ACCEPT_AS_FINAL
    if not is_conclusive or (charge_status is ChargeStatus.UNKNOWN and fact.cost is None):
        return Ignored("the update adds no evidence about the cost")
    corrected = _correct_cost(job, attempt, compute_booking(job, attempt, fact.fault, fact.cost))
    if isinstance(corrected, Ignored) or job.get_seller_response(attempt.number):
        return corrected
    return record_seller_response(corrected, attempt.number, fact.seller_response)


def _apply_job_confirmed(job: Job, fact: job_update_types.JobConfirmed, now: float) -> TransitionResult:
    if job.state.is_terminal or job.is_confirmed:
        return Ignored("nothing new")
    return replace(job, is_client_confirmed=True)


def _apply_cancel_requested(job: Job, fact: job_update_types.CancelRequested, now: float) -> TransitionResult:
    if job.state.is_terminal:
        return Ignored(f"the job is already {job.state}")
    return replace(drop_waiting_parts(job), is_cancel_requested=True)


def _apply_job_content_deleted(job: Job, fact: job_update_types.JobContentDeleted, now: float) -> TransitionResult:
    """Removes all text and addresses of the job. Its costs can still be corrected by later facts."""
    if not job.is_settled:
        return Ignored("its orders are not settled")
    attempts = tuple(replace(attempt, image_urls=()) for attempt in job.attempts)
    return replace(
        job, is_deleted=True, labels=(), warnings=(), tracestate=None, seller_responses=(), attempts=attempts
    )


def _apply_retention_ended(job: Job, fact: job_update_types.RetentionEnded, now: float) -> TransitionResult:
    if not job.is_settled or job.is_deleted:
        return Ignored("its orders are not settled, or the team deleted it")
    has_deleted_images, has_deleted_prompt = (
        job.has_deleted_images or fact.images,
        job.has_deleted_prompt or fact.prompt,
    )
    if (has_deleted_images, has_deleted_prompt) == (job.has_deleted_images, job.has_deleted_prompt):
        return Ignored("nothing new")
    return replace(job, has_deleted_images=has_deleted_images, has_deleted_prompt=has_deleted_prompt)


# --- decisions


def _apply_order_rejected(job: Job, decision: job_update_types.OrderRejected, now: float) -> TransitionResult:
    return _apply_order_failed(job, replace(decision.failure, is_rejection=True), now)


def _apply_attempt_started(job: Job, decision: job_update_types.AttemptStarted, now: float) -> TransitionResult:
    images = tuple(sorted(set(decision.images)))
    if not (part := find_waiting_part(job, images)):
        return _NOT_WAITING
    if refusal := _find_order_refusal(job, part, decision.route_index, images, now):
        return Ignored(refusal)
    number = len(job.attempts) + 1
    attempt = Attempt(number=number, route_index=decision.route_index, images=images, started_at=round_timestamp(now))
    tried_indexes = (*part.tried_indexes, decision.route_index)
    buying_part = replace(
        part, images=images, state=PartState.BUYING, tried_indexes=tried_indexes, attempt=number, fault=None
    )
    job = replace_parts(job, part, buying_part, remove_images(part, images))
    return replace(job, state=JobState.IN_PROGRESS, attempts=(*job.attempts, attempt))


def _find_order_refusal(job: Job, part: Part, route_index: int, images: tuple[int, ...], now: float) -> str | None:
    """Returns why these images may not be ordered at this route entry now, None if they may."""
    if job.state.is_terminal or job.is_cancel_requested or job.is_overdue or job.is_abandoned or now >= job.deadline:
        return "nothing more is ordered for this job"
    if not 0 <= route_index < len(job.route) or len(images) > job.route[route_index].max_images:
        return "route entry not found, or too many images for one order"
    if route_index in part.tried_indexes and not can_retry(job, part, route_index, now):
        return "this route entry was already tried for these images"
    return "all attempts for these images are used up" if len(part.tried_indexes) >= job.max_attempts else None


def _apply_attempt_abandoned(job: Job, decision: job_update_types.AttemptAbandoned, now: float) -> TransitionResult:
    attempt = job.get_attempt(decision.attempt)
    if not attempt or not attempt.state.is_open:
        return Ignored("no such open attempt")
    if decision.is_lost and job.can_poll(attempt):
        return Ignored("the order is found")
    if VERDICTS[decision.fault].charge_status is ChargeStatus.NOT_CHARGED:
        return Ignored("abandoning an attempt does not prove that nothing was charged")
    if attempt.images_ready and VERDICTS[decision.fault].charge_status is not ChargeStatus.CHARGED:
        return _IMAGES_EXIST
    job = _close_without_images(job, attempt, decision.fault, None, now)
    return record_seller_response(job, attempt.number, decision.seller_response)


def _apply_part_abandoned(job: Job, decision: job_update_types.PartAbandoned, now: float) -> TransitionResult:
    """Fails images that no seller accepted: a whole waiting part, or some of its images.

    At a seller that takes few images per order, several tasks share the images of one part.
    """
    images = tuple(sorted(set(decision.images)))
    if not (part := find_waiting_part(job, images)):
        return _NOT_WAITING
    if now >= job.deadline:
        return Ignored("the deadline has passed: the job expires, and no seller failed")
    if decision.fault is not None:
        job = add_retry_time(job, 0, decision.fault, decision.retry_after, now)
    failed_part = replace(part, images=images, state=PartState.FAILED, fault=decision.fault or part.fault)
    return replace_parts(job, part, failed_part, remove_images(part, images))


def _apply_job_expired(job: Job, decision: job_update_types.JobExpired, now: float) -> TransitionResult:
    """Ends the job at its deadline. Attempts whose order is running stay open until their cost is known."""
    if job.state.is_terminal or now < job.deadline:
        return Ignored("the deadline has not passed" if now < job.deadline else f"the job is already {job.state}")

    def expire_part(part: Part) -> Part:
        attempt = job.get_attempt(part.attempt or 0)
        if not part.state.is_open or (attempt and attempt.images_ready):
            return part
        return replace(part, state=PartState.FAILED, attempt=None)

    return replace(job, is_overdue=True, parts=tuple(expire_part(part) for part in job.parts))


def _apply_job_withdrawn(job: Job, decision: job_update_types.JobWithdrawn, now: float) -> TransitionResult:
    if job.state.is_terminal or job.is_confirmed:
        return Ignored("the job has ended, or is confirmed")
    if now < job.confirmation_deadline:
        return Ignored("the client may still repeat the request")
    return replace(drop_waiting_parts(job), is_withdrawn=True)


def _apply_job_abandoned(job: Job, decision: job_update_types.JobAbandoned, now: float) -> TransitionResult:
    """Stops ordering for the job, whose workers keep crashing. Orders that are running are still tracked."""
    if job.state.is_terminal or job.is_abandoned:
        return Ignored("nothing more is ordered for this job")
    for part in job.parts:
        if part.state is PartState.WAITING:
            job = replace_parts(job, part, replace(part, state=PartState.FAILED))
    return replace(job, is_abandoned=True)


# --- shared steps


def _close_without_images(job: Job, attempt: Attempt, fault: FaultKind, cost: int | None, now: float) -> Job:
    """Closes an attempt that delivered no images."""
    cost = attempt.cost if cost is None else cost
    job = replace_attempt(job, close_attempt(attempt, fault, cost, now, compute_booking(job, attempt, fault, cost)))
    part = job.find_part(attempt.number)
    return _end_part(job, part, (), fault, now) if part else job


def _close_late(job: Job, attempt: Attempt, cost: int | None, made_count: int | None, now: float) -> Job:
    """Closes an attempt whose images arrived too late to be delivered."""
    booking = (LedgerLine.ORPHAN, attempt_cost(job, attempt, cost, made_count))
    return replace_attempt(job, close_attempt(attempt, FaultKind.ORDER_TIMED_OUT, cost, now, booking))


def _end_part(
    job: Job, part: Part, delivered_images: tuple[int, ...], missing_fault: FaultKind | None, now: float
) -> Job:
    """Ends a part's attempt: images that are delivered, and images that are not."""
    delivered_part = replace(part, images=delivered_images, state=PartState.DELIVERED, attempt=None, fault=None)
    remaining_part = replace(remove_images(part, delivered_images), attempt=None, fault=missing_fault)
    return replace_parts(job, part, delivered_part, _set_next_state(job, remaining_part, now))


def _set_next_state(job: Job, part: Part, now: float) -> Part:
    if part.fault is None:
        return part
    state = part_state_after(VERDICTS[part.fault].consequence, job.reorder_on_unknown)
    if state is PartState.WAITING and job.is_cancel_requested:
        state = PartState.DROPPED
    elif len(part.tried_indexes) >= job.max_attempts or job.is_overdue or job.is_abandoned:
        state = PartState.FAILED
    return replace(part, state=state)


def _correct_cost(job: Job, attempt: Attempt, booking: Booking) -> TransitionResult:
    """Corrects the cost of a closed attempt. Changes the ledger only, never the amount that the team paid."""
    if attempt.delivered_count or attempt.orphaned_amount:
        return Ignored("its cost is already booked")
    return replace_attempt(job, set_booking(attempt, booking))


def _record_tokens(job: Job, attempt: Attempt, usage: TokenUsage | None) -> Job:
    """Records the tokens of an attempt. The first count is final."""
    if usage is None or any(count.attempt == attempt.number for count in job.token_counts):
        return job
    token_count = TokenCount(attempt.number, usage.input_text, usage.input_image, usage.output)
    return replace(job, token_counts=(*job.token_counts, token_count))


_TRANSITIONS: dict[type[job_update_types.JobUpdate], Callable[[Job, Any, float], TransitionResult]] = {
    job_update_types.TicketReceived: _apply_ticket_received,
    job_update_types.ResponseLost: _apply_response_lost,
    job_update_types.CallbackReceived: _apply_callback_received,
    job_update_types.ImagesReady: _apply_images_ready,
    job_update_types.ImagesStored: _apply_images_stored,
    job_update_types.OrderFailed: _apply_order_failed,
    job_update_types.JobConfirmed: _apply_job_confirmed,
    job_update_types.CancelRequested: _apply_cancel_requested,
    job_update_types.JobContentDeleted: _apply_job_content_deleted,
    job_update_types.RetentionEnded: _apply_retention_ended,
    job_update_types.OrderRejected: _apply_order_rejected,
    job_update_types.AttemptStarted: _apply_attempt_started,
    job_update_types.AttemptAbandoned: _apply_attempt_abandoned,
    job_update_types.PartAbandoned: _apply_part_abandoned,
    job_update_types.JobExpired: _apply_job_expired,
    job_update_types.JobWithdrawn: _apply_job_withdrawn,
    job_update_types.JobAbandoned: _apply_job_abandoned,
}
