"""Where requests become jobs, and jobs answers: what both surfaces do alike."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from msgspec import Struct

from gateway.api import request_schemas as wishing
from gateway.api.api_errors import ApiError
from gateway.api.client_presence import ClientPresence
from gateway.api.refused_requests import RefusedRequests
from gateway.api.request_schemas import ImageParams, InputImages
from gateway.assets.signed_urls import UrlSigner
from gateway.assets.storage import ImageStorage, ObjectNotFound, ObjectStream, StorageError, describe_problem
from gateway.catalogue import Catalogue
from gateway.engine.documents import (
    PLAN,
    REQUEST,
    JobDocuments,
    RequestedParams,
    StoredImage,
    decode_image,
    decode_plan,
    decode_request,
    image_document_name,
)
from gateway.engine.engine import Engine
from gateway.engine.job_creation import ClientDisconnected, CreateJobCommand, CreateJobResult, NoOfferAvailable
from gateway.jobs.commit import UNCOUNTED, IdempotencyRecord
from gateway.jobs.job import CONFIRMATION_TIMEOUT_SECONDS, Job
from gateway.money import format_usd
from gateway.routing.plan import RoutingError
from gateway.store.base import (
    Applied,
    BudgetExceeded,
    DuplicateRequest,
    IdempotencyKeyReused,
    IdempotencyMatch,
    Store,
    StoreError,
    StoreOutcomeUnknown,
    StoreUnavailable,
)
from gateway.upstream.input_fetcher import InputFetcher
from providers.orders import Format, Operation

IDEMPOTENCY_KEY_TTL_SECONDS = 86_400.0
# When it is worth asking again where images cannot be stored: that is looked at every few seconds.
STORAGE_RETRY_SECONDS = 10
# For a job that is asked for again to be confirmed, and between two tries of one that was just accepted.
CONFIRM_TIMEOUT_SECONDS, CONFIRM_RETRY_SECONDS = 6.0, 0.5


class ApiContext(Struct, frozen=True, kw_only=True):
    """What handlers work with. `is_draining`: this process takes no new jobs."""

    engine: Engine
    store: Store
    storage: ImageStorage
    input_fetcher: InputFetcher
    url_signer: UrlSigner
    refused: RefusedRequests
    catalogue: Callable[[], Catalogue]
    wall_clock: Callable[[], float]
    draw_random: Callable[[], float]
    is_draining: Callable[[], bool]


class JobRequest(Struct, frozen=True, kw_only=True):
    """What is asked, by whom, and how it may be told from another: by the caller's key, or by its body.

    `reports_retries`: a client that says so when it asks again. `is_dalle_client`: it expects an answer in DALL-E's form. `warnings`:
    about words of the request that were mapped or have no effect.
    """

    team: str
    params: ImageParams
    operation: Operation
    fingerprint: str
    presence: ClientPresence
    idempotency_key: str | None = None
    reports_retries: bool = False
    retry_count: int = 0
    is_dalle_client: bool = False
    warnings: tuple[str, ...] = ()
    input_images: InputImages = InputImages()
    requested_params: RequestedParams = RequestedParams()

    @property
    def is_idempotent(self) -> bool:
        """Whether it leads to its job again when it is repeated."""
        return self.idempotency_key is not None or self.reports_retries


class SubmittedJob(Struct, frozen=True):
    """The job that a request has become, or had become before."""

    job_id: str
    is_replayed: bool


async def find_existing_job(context: ApiContext, request: JobRequest) -> SubmittedJob | None:
    """Comes before all else that is done for a request: a job that was accepted is its job, whatever has become since
    of prices, sellers, and the pictures that it links to. It is no new one, so that draining does not matter, either.
    """
    record = _build_idempotency_record(context, request)
    try:
        duplicate = await context.store.find_by_idempotency(request.team, record)
    except StoreUnavailable:
        request.presence.idempotency_record = record
        raise
    if duplicate is None:
        return None
    request.presence.idempotency_record = record
    # A client that repeats a request and ends its half of the connection is answered like the first.
    await request.presence.promise_response()
    existing = _to_replayed_job(duplicate)
    return existing if await _confirm_existing_job(context, existing.job_id) else None


async def submit_job(context: ApiContext, request: JobRequest) -> SubmittedJob:
    """What was not taken before; if it is at this very moment, the store says so.

    ApiError says why not. Nothing was bought then, and nothing is owed.
    """
    record = context.refused.follow(request.team, _build_idempotency_record(context, request))
    try:
        return await _take(context, request, record)
    except (ApiError, StoreError, StorageError) as error:
        is_repeated = not (isinstance(error, ApiError) and error.final)
        if is_repeated and request.presence.idempotency_record is None:
            context.refused.add(request.team, record)
        raise


async def _take(tools: ApiContext, request: JobRequest, record: IdempotencyRecord) -> SubmittedJob:
    if tools.is_draining():
        raise ApiError(503, "draining", "This gateway is shutting down: ask again.", retry_after=1)
    if tools.storage.problem is not None:
        why = describe_problem(tools.storage.problem)
        message = (
            f"No new job is accepted: {why}. Nothing was ordered or charged. Retry in {STORAGE_RETRY_SECONDS} seconds."
        )
        raise ApiError(503, "storage_unavailable", message, retry_after=STORAGE_RETRY_SECONDS)
    catalogue = tools.catalogue()
    question = wishing.to_routing_query(
        catalogue, request.params, request.team, request.operation, request.input_images
    )
    ask = CreateJobCommand(
        query=question,
        team=request.team,
        inputs=request.input_images.inputs,
        mask=request.input_images.mask,
        idempotency=record,
        draw=tools.draw_random(),
        warnings=request.warnings,
        is_client_connected=request.presence.promise_response if request.idempotency_key is None else None,
        has_client_disconnected=(lambda: request.presence.is_disconnected) if request.idempotency_key is None else None,
        requested_params=request.requested_params,
    )
    accepting = await _create_job(tools, request, ask)
    if isinstance(accepting.outcome, Applied | DuplicateRequest):
        request.presence.idempotency_record = record
    if isinstance(accepting.outcome, DuplicateRequest) and not await _confirm_existing_job(
        tools, accepting.outcome.job_id
    ):
        message = "The earlier job of this request was withdrawn just now. Nothing was ordered. Retry the request."
        raise ApiError(503, "withdrawn", message, retry_after=1)
    return _to_submitted_job(accepting)


async def _create_job(context: ApiContext, request: JobRequest, command: CreateJobCommand) -> CreateJobResult:
    try:
        return await context.engine.create_job(command)
    except ClientDisconnected:
        request.presence.idempotency_record = command.idempotency
        raise ApiError(499, "client_left", "The connection ended before the order: nothing was ordered.") from None
    except RoutingError as error:
        raise wishing.to_invalid_value_error(error) from error
    except NoOfferAvailable as no_offer:
        raise _no_offer_error(no_offer) from None
    except StoreOutcomeUnknown:
        request.presence.idempotency_record = command.idempotency
        raise _outcome_unknown_error() from None


async def _confirm_existing_job(context: ApiContext, job_id: str) -> bool:
    """Its caller asks for it again: so it is bought, unless it has been withdrawn already."""
    try:
        async with asyncio.timeout(CONFIRM_TIMEOUT_SECONDS):
            job = await context.engine.confirm_job(job_id)
    except TimeoutError:
        raise StoreUnavailable(f"the confirmation of {job_id} was not saved in time") from None
    return job is None or not job.withdrawn


async def wait_for_confirmation(context: ApiContext, job_id: str) -> Job:
    """As it is when it is saved that it will be bought, however long the store takes to do so."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            if (job := await context.engine.confirm_job(job_id)) is None:
                raise ApiError(404, "job_not_found", "There is no such job.")
            return job
        await asyncio.sleep(CONFIRM_RETRY_SECONDS)


def _to_submitted_job(result: CreateJobResult) -> SubmittedJob:
    match result.outcome:
        case Applied():
            return SubmittedJob(result.commit.job.id, is_replayed=False)
        case DuplicateRequest() | IdempotencyKeyReused() as duplicate:
            return _to_replayed_job(duplicate)
        case BudgetExceeded() as exceeded:
            raise _budget_exceeded_error(exceeded)
        case _:
            raise ApiError(503, "store_unavailable", "The job could not be accepted; ask again.", retry_after=1)


def _to_replayed_job(duplicate: IdempotencyMatch) -> SubmittedJob:
    if isinstance(duplicate, IdempotencyKeyReused):
        message = "This Idempotency-Key belongs to a request with another body. Use a new key for a new request."
        raise ApiError(422, "idempotency_key_reused", message)
    return SubmittedJob(duplicate.job_id, is_replayed=True)


def _outcome_unknown_error() -> ApiError:
    message = (
        "The gateway's job store did not say whether it has accepted this request. Retry it within "
        f"{CONFIRMATION_TIMEOUT_SECONDS:.0f} s, and it is ordered once; otherwise it is withdrawn, and nothing is bought."
    )
    return ApiError(503, "store_unavailable", message, retry_after=5)


def _build_idempotency_record(context: ApiContext, request: JobRequest) -> IdempotencyRecord:
    """By what was sent alone, and not by what it leads to."""
    if request.idempotency_key is not None:
        key = wishing.compute_fingerprint("key", request.idempotency_key.encode())
        return IdempotencyRecord(key=key, fingerprint=request.fingerprint, ttl_seconds=IDEMPOTENCY_KEY_TTL_SECONDS)
    fingerprint, seconds = request.fingerprint, 2 * context.catalogue().gateway.jobs.deadline_seconds
    return IdempotencyRecord(
        key=fingerprint,
        fingerprint=fingerprint,
        ttl_seconds=seconds,
        is_body_key=True,
        retry_count=request.retry_count if request.reports_retries else UNCOUNTED,
        caller_id=request.presence.client_id,
    )


def _no_offer_error(error: NoOfferAvailable) -> ApiError:
    reasons = "; ".join(f"{seller}: {', '.join(seller_reasons)}" for seller, seller_reasons in error.reasons.items())
    return ApiError(400, "no_offer", f"Nobody sells this as it is asked for. {reasons[:600]}")


def _budget_exceeded_error(exceeded: BudgetExceeded) -> ApiError:
    remaining = max(0, exceeded.limit - exceeded.spent - exceeded.held)
    message = (
        f"Your team's budget for {exceeded.window} is ${format_usd(exceeded.limit)}; ${format_usd(remaining)} of it is left, "
        f"${format_usd(exceeded.held)} is set aside for running jobs."
    )
    return ApiError(429, "insufficient_quota", message, kind="insufficient_quota", final=True)


# --- results


async def get_team_job(context: ApiContext, team: str, job_id: str, timeout_seconds: float = 0.0) -> Job:
    """Another team's job looks like none at all: nor is it waited for."""
    job = await context.engine.get_job(job_id)
    if timeout_seconds > 0 and job is not None and job.team == team:
        job = await context.engine.wait_for_job(job_id, timeout_seconds)
    if job is None or job.team != team:
        raise ApiError(404, "job_not_found", "There is no such job.")
    return job


async def load_stored_images(context: ApiContext, job: Job) -> list[StoredImage]:
    """Of the images that are delivered, in order."""
    names = {index: image_document_name(attempt, index) for index, attempt in job.delivering_attempts.items()}
    documents: Mapping[str, bytes] = await context.store.load_documents(job.id, *names.values())
    return [decode_image(documents[name]) for name in names.values() if name in documents]


async def load_job_documents(context: ApiContext, job: Job) -> JobDocuments:
    """Loads all records beside a job that its team may see, in one store request."""
    names = [image_document_name(attempt, index) for index, attempt in job.delivering_attempts.items()]
    documents: Mapping[str, bytes] = await context.store.load_documents(job.id, REQUEST, PLAN, *names)
    if REQUEST not in documents or PLAN not in documents:
        raise ObjectNotFound(f"{job.id} was deleted while it was read")
    return JobDocuments(
        request=decode_request(documents[REQUEST]),
        plan=decode_plan(documents[PLAN]),
        images=tuple(decode_image(documents[name]) for name in names if name in documents),
    )


async def read_image(context: ApiContext, image: StoredImage) -> bytes:
    return await context.storage.get(image.key)


async def open_image_stream(context: ApiContext, key: str) -> ObjectStream:
    return await context.storage.open_stream(key)


def get_media_type(key: str) -> str:
    return Format(key.rpartition(".")[2]).media_type
