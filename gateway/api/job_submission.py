"""Submits requests as jobs, exactly once per request."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Generic

from msgspec import Struct

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.budget_refusal import make_budget_exceeded_error
from gateway.api.client_presence import ClientPresence
from gateway.api.input_images import InputImages
from gateway.api.job_admission import admit_job
from gateway.api.parameter_table import ParamsT
from gateway.api.routing_query_builder import list_query_warnings, to_invalid_value_error, to_routing_query
from gateway.api.server_error_responses import record_created_job, track_job_creation
from gateway.api.team_job_loader import make_job_not_found_error
from gateway.assets.storage import StorageError, describe_problem
from gateway.engine.job_creation import ClientDisconnected, CreateJobCommand, CreateJobResult, NoOfferAvailable
from gateway.engine.moderation import ModerationUnavailable, RequestRefused
from gateway.jobs.budgets import KeyBudget
from gateway.jobs.commit import UNCOUNTED, IdempotencyRecord
from gateway.jobs.job import Job
from gateway.routing.plan import RoutingError
from gateway.routing.routing_request import RequestedParams
from gateway.store.base import (
    Applied,
    BudgetExceeded,
    DuplicateRequest,
    IdempotencyKeyReused,
    IdempotencyMatch,
    StoreError,
    StoreOutcomeUnknown,
    StoreUnavailable,
)
from gateway.timeouts_and_intervals import Timing
from providers.orders import Operation

# The Retry-After while images cannot be stored. The storage is checked every few seconds.
STORAGE_RETRY_SECONDS = 10
# The Retry-After while the moderation does not answer.
MODERATION_RETRY_SECONDS = 5


class JobRequest(Struct, Generic[ParamsT], frozen=True, kw_only=True):
    """A validated request for a job.

    `idempotency`: recognizes its repetitions. `is_dalle_client`: the client expects DALL-E's response format.
    `warnings`: parameters that were mapped or ignored. `echoed_params`: what only the responses repeat. `batch_id`,
    `deadline_seconds`: of a line of a batch. `traceparent`, `tracestate`: of the HTTP request, if it is traced.
    """

    team: str
    params: ParamsT
    operation: Operation
    idempotency: IdempotencyRecord
    presence: ClientPresence
    is_dalle_client: bool = False
    warnings: tuple[str, ...] = ()
    input_images: InputImages = InputImages()
    requested_params: RequestedParams = RequestedParams()
    key_id: str = ""
    key_budget: KeyBudget | None = None
    webhook: str | None = None
    echoed_params: Mapping[str, Any] = {}
    batch_id: str = ""
    deadline_seconds: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    @property
    def is_idempotent(self) -> bool:
        """Returns whether a repetition of this request gets the same job."""
        return not self.idempotency.is_body_key or self.idempotency.retry_count != UNCOUNTED


AnyJobRequest = JobRequest[Any]


class SubmittedJob(Struct, frozen=True):
    """A request's job. `is_replayed`: an earlier request created it."""

    job_id: str
    is_replayed: bool


async def submit_or_reuse_job(
    context: ApiContext, state: dict[str, Any], job_request: AnyJobRequest, existing: SubmittedJob | None = None
) -> SubmittedJob:
    """Returns the existing job of this request, or submits a new one. Later error responses to the request name that
    job."""
    with track_job_creation(state, job_request.is_idempotent):
        submitted = existing or await _submit_admitted_job(context, state, job_request)
    record_created_job(state, submitted.job_id)
    return submitted


async def _submit_admitted_job(context: ApiContext, state: dict[str, Any], job_request: AnyJobRequest) -> SubmittedJob:
    with admit_job(context, state, job_request.params.policy, job_request.params.n):
        return await submit_job(context, job_request)


async def find_existing_job(context: ApiContext, request: AnyJobRequest) -> SubmittedJob | None:
    """Returns the job that an earlier, equal request created.

    This lookup comes first: prices, sellers, linked images and draining concern only new jobs.
    """
    record = request.idempotency
    try:
        duplicate = await context.store.find_by_idempotency(request.team, record)
    except StoreUnavailable:
        request.presence.idempotency_record = record
        raise
    if duplicate is None:
        return None
    request.presence.idempotency_record = record
    # The client may half-close the connection: it gets the same response as the first request.
    await request.presence.promise_response()
    existing = _to_replayed_job(duplicate)
    return existing if await _confirm_existing_job(context, existing.job_id) else None


async def submit_job(context: ApiContext, request: AnyJobRequest) -> SubmittedJob:
    """Creates a job for the request. The store detects concurrent duplicates.

    Raises ApiError if no job was created: then nothing was ordered or charged.
    """
    record = context.refused.mark_refused_first(request.team, request.idempotency)
    try:
        return await _submit_new_job(context, request, record)
    except (ApiError, StoreError, StorageError) as error:
        is_repeated = not isinstance(error, ApiError) or error.is_retryable
        if is_repeated and request.presence.idempotency_record is None:
            context.refused.add_refused_request(request.team, record)
        raise


async def _submit_new_job(context: ApiContext, request: AnyJobRequest, record: IdempotencyRecord) -> SubmittedJob:
    if context.is_draining():
        message = "This gateway is shutting down. Retry in 1 second."
        raise ApiError(503, "draining", message, retry_after=1)
    if context.storage.problem is not None:
        reason = describe_problem(context.storage.problem)
        message = f"No new jobs are accepted: {reason}. Retry in {STORAGE_RETRY_SECONDS} seconds."
        raise ApiError(503, "storage_unavailable", message, retry_after=STORAGE_RETRY_SECONDS)
    presence, has_key = request.presence, not record.is_body_key
    compression = request.params.output_compression
    query = to_routing_query(context.catalogue(), request.params, request.team, request.operation, request.input_images)
    command = CreateJobCommand(
        query=query,
        prompt=request.params.prompt,
        team=request.team,
        inputs=request.input_images.inputs,
        mask=request.input_images.mask,
        idempotency=record,
        draw=context.draw_random(),
        warnings=(*request.warnings, *list_query_warnings(query, request.params, request.input_images)),
        is_client_connected=None if has_key else presence.promise_response,
        has_client_disconnected=None if has_key else lambda: presence.is_disconnected,
        requested_params=request.requested_params,
        output_compression=None if compression == 100 else compression,
        key_id=request.key_id,
        key_budget=request.key_budget,
        labels=tuple(dict.fromkeys(request.params.labels)),
        webhook=request.webhook,
        echoed_params=request.echoed_params,
        batch_id=request.batch_id,
        deadline_seconds=request.deadline_seconds,
        traceparent=request.traceparent,
        tracestate=request.tracestate,
    )
    result = await _create_job(context, request, command)
    outcome = result.outcome
    if isinstance(outcome, Applied | DuplicateRequest):
        presence.idempotency_record = record
    if isinstance(outcome, DuplicateRequest) and not await _confirm_existing_job(context, outcome.job_id):
        message = "The earlier job of this request was withdrawn. Retry in 1 second."
        raise ApiError(503, "withdrawn", message, retry_after=1)
    return _to_submitted_job(result)


async def _create_job(context: ApiContext, request: AnyJobRequest, command: CreateJobCommand) -> CreateJobResult:
    try:
        return await context.engine.create_job(command)
    except ClientDisconnected:
        request.presence.idempotency_record = command.idempotency
        message = "The client disconnected before the order."
        raise ApiError(499, "client_left", message) from None
    except RoutingError as error:
        raise to_invalid_value_error(error) from error
    except RequestRefused as refused:
        reason = f": {refused.reason.rstrip('.')}" if refused.reason else ""
        message = f"The moderation hook 'before' refused this request{reason}. Change the prompt or the images."
        raise ApiError(400, "moderation_blocked", message, error_type="image_generation_user_error") from None
    except ModerationUnavailable:
        message = f"The moderation hook 'before' gave no valid answer. Retry in {MODERATION_RETRY_SECONDS} seconds."
        raise ApiError(503, "moderation_unavailable", message, retry_after=MODERATION_RETRY_SECONDS) from None
    except NoOfferAvailable as no_offer:
        raise _no_offer_error(no_offer) from None
    except StoreOutcomeUnknown:
        request.presence.idempotency_record = command.idempotency
        raise _outcome_unknown_error(context.timing) from None


async def _confirm_existing_job(context: ApiContext, job_id: str) -> bool:
    """Confirms the job of a repeated request, so that it is ordered. Returns False if the job was withdrawn before."""
    try:
        async with asyncio.timeout(context.timing.api.confirmation_timeout_seconds):
            job = await context.engine.confirm_job(job_id)
    except TimeoutError:
        raise StoreUnavailable(f"the confirmation of {job_id} was not saved in time") from None
    return job is None or not job.is_withdrawn


async def wait_for_confirmation(context: ApiContext, job_id: str) -> Job:
    """Returns the job once its confirmation is saved. Retries for as long as the store is unavailable."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            if (job := await context.engine.confirm_job(job_id)) is None:
                raise make_job_not_found_error()
            return job
        await asyncio.sleep(context.timing.api.confirmation_retry_seconds)


def _to_submitted_job(result: CreateJobResult) -> SubmittedJob:
    match result.outcome:
        case Applied():
            return SubmittedJob(result.commit.job.id, is_replayed=False)
        case DuplicateRequest() | IdempotencyKeyReused() as duplicate:
            return _to_replayed_job(duplicate)
        case BudgetExceeded() as exceeded:
            job = result.commit.job
            raise make_budget_exceeded_error(exceeded, job.hold, job.created_at)
        case _:
            message = "The job store did not accept the job. Retry in 1 second."
            raise ApiError(503, "store_unavailable", message, retry_after=1)


def _to_replayed_job(duplicate: IdempotencyMatch) -> SubmittedJob:
    if isinstance(duplicate, IdempotencyKeyReused):
        message = "This Idempotency-Key was used with another route or body. Use a new key for a new request."
        raise ApiError(422, "idempotency_key_reused", message)
    return SubmittedJob(duplicate.job_id, is_replayed=True)


def _outcome_unknown_error(timing: Timing) -> ApiError:
    seconds = timing.jobs.confirmation_timeout_seconds
    message = (
        "The job store did not confirm whether it accepted this request. Retry it within "
        f"{seconds:.0f} s, then it is ordered once; otherwise it is withdrawn."
    )
    return ApiError(503, "store_unavailable", message, retry_after=timing.api.store_retry_after_seconds)


def _no_offer_error(error: NoOfferAvailable) -> ApiError:
    reasons = "; ".join(f"{seller}: {', '.join(seller_reasons)}" for seller, seller_reasons in error.reasons.items())
    message = f"No configured seller can fulfil this request: {reasons[:600]}."
    return ApiError(400, "no_offer", message)
