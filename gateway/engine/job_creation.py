"""From a request to a job: planned, its inputs kept, its money set aside, saved in one step."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from msgspec import Struct

from gateway.assets.image_header import ImageHeader
from gateway.assets.object_keys import make_job_prefix, make_object_key
from gateway.assets.storage import StorageError
from gateway.catalogue import Offer
from gateway.config.schema import BudgetConfig
from gateway.config.values import Usd
from gateway.engine.documents import (
    PLAN,
    REQUEST,
    TERMS,
    OrderTerms,
    RequestedParams,
    SavedRequest,
    StoredInput,
    encode_document,
)
from gateway.engine.engine_context import EngineContext
from gateway.events import ErrorReported
from gateway.jobs.commit import BudgetLimits as BudgetLimits
from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.completion import merge_warnings
from gateway.jobs.creation import NewJob, OrderCost, create_job_commit
from gateway.jobs.job import RecoveryMethod, RouteEntry
from gateway.report import plan_to_json
from gateway.routing.plan import Plan, RankedOffer, RoutingQuery, make_plan
from gateway.store.base import Applied, CommitOutcome, StoreOutcomeUnknown, StoreUnavailable
from gateway.store.partitions import new_job_id
from providers.orders import Format, ImageBytes

# How many places of a plan a job may come to: the first so many, best first.
MAX_ROUTE_LENGTH = 8
# For how long inputs may lie there without a job.
UNCLAIMED_INPUT_TTL_SECONDS = 3_600.0
MIN_ATTEMPT_TIMEOUT_SECONDS = 420.0
ATTEMPT_TIMEOUT_FACTOR = 4.0


class NoOfferAvailable(Exception):
    """No offer can take this request; `reasons` says why for each seller."""

    def __init__(self, reasons: Mapping[str, Sequence[str]]) -> None:
        super().__init__("nobody sells this")
        self.reasons = reasons


class ClientDisconnected(Exception):
    """The caller left before anything was ordered. A job that was saved meanwhile stays unconfirmed: it is bought if
    the caller asks again, and withdrawn otherwise."""


class InputImage(Struct, frozen=True):
    """An input image as it came, and what its bytes say of it."""

    content: ImageBytes
    header: ImageHeader


class CreateJobCommand(Struct, frozen=True, kw_only=True):
    """Everything that becomes part of a job. `warnings`: about the team's parameters, shown before anything is bought.
    `requested_params`: those parameters. `is_client_connected`: called right before the job is saved; without it the job is wanted
    however its request ends. `has_client_disconnected`: called once the job is saved, which may take long."""

    query: RoutingQuery
    team: str
    inputs: tuple[InputImage, ...] = ()
    mask: InputImage | None = None
    idempotency: IdempotencyRecord | None = None
    webhook: str | None = None
    draw: float = 0.0
    warnings: tuple[str, ...] = ()
    is_client_connected: Callable[[], Awaitable[bool]] | None = None
    has_client_disconnected: Callable[[], bool] | None = None
    requested_params: RequestedParams = RequestedParams()


class CreateJobResult(Struct, frozen=True):
    """A job that is about to be, and how the store took it."""

    commit: Commit
    outcome: CommitOutcome
    policy: str


async def create_job(context: EngineContext, command: CreateJobCommand) -> CreateJobResult:
    """NobodySells or RoutingError if it cannot be, CallerGone if it need not, StoreUnsure if the store does not say;
    else what it says."""
    catalogue = context.catalogue()
    signals = context.health.get_catalogue_signals(catalogue, context.monotonic(), context.limits.get_load)
    plan = make_plan(catalogue, command.query, signals, command.draw)
    ranked_offers = [offer for offer in plan.ranked if offer.fit.offer.seller.account.api_key][:MAX_ROUTE_LENGTH]
    if not ranked_offers:
        raise NoOfferAvailable({offer.seller: offer.reasons for offer in plan.excluded})
    job_id = new_job_id(command.team)
    request = await _build_saved_request(context, job_id, command)
    documents = {
        REQUEST: encode_document(request),
        TERMS: encode_document(tuple(_make_order_terms(offer, request.output_format) for offer in ranked_offers)),
        PLAN: msgspec.json.encode(plan_to_json(catalogue, plan)),
    }
    if command.webhook:
        documents["webhook"] = command.webhook.encode()
    new_job = _make_new_job(context, command, plan, ranked_offers)
    commit = create_job_commit(msgspec.structs.replace(new_job, id=job_id, documents=documents), context.wall_clock())
    if command.is_client_connected is not None and not await command.is_client_connected():
        await discard_inputs(context, job_id)
        raise ClientDisconnected
    try:
        outcome = await context.store.commit(commit)
    except StoreOutcomeUnknown:
        # The job may be there, or come yet: its inputs are kept for its caller, who may ask again.
        raise
    except StoreUnavailable:
        await discard_inputs(context, job_id)
        raise
    if not isinstance(outcome, Applied):
        await discard_inputs(context, job_id)
    elif command.has_client_disconnected is not None and command.has_client_disconnected():
        raise ClientDisconnected
    return CreateJobResult(commit, outcome, plan.policy)


async def discard_inputs(context: EngineContext, job_id: str) -> None:
    """Of what became no job: nobody would ever look for them."""
    try:
        await context.storage.delete_prefix(make_job_prefix(job_id))
    except StorageError as error:
        context.emit(ErrorReported(component="inputs", message=type(error).__name__, job=job_id))


def _make_new_job(
    context: EngineContext, command: CreateJobCommand, plan: Plan, ranked_offers: Sequence[RankedOffer]
) -> NewJob:
    catalogue, request = context.catalogue(), command.query.request
    team = catalogue.teams.get(command.team)
    budget = team.budget if team else BudgetConfig()
    return NewJob(
        id="",
        team=command.team,
        model=request.model,
        n=request.n,
        route=tuple(_make_route_entry(context, offer) for offer in ranked_offers),
        order_costs=tuple(OrderCost(offer.quote.order_price, offer.quote.order_ceiling) for offer in ranked_offers),
        deadline_seconds=catalogue.gateway.jobs.deadline_seconds,
        max_attempts=plan.failover.attempts,
        reorder_on_unknown=plan.failover.on_unknown == "reorder",
        config_hash=plan.config_hash,
        has_webhook=command.webhook is not None,
        warnings=merge_warnings((), command.warnings),
        budget_limits=BudgetLimits(day=_to_micros(budget.day), month=_to_micros(budget.month)),
        idempotency=command.idempotency,
    )


def _to_micros(amount: Usd | None) -> int | None:
    return None if amount is None else int(amount)


def _make_route_entry(context: EngineContext, ranked: RankedOffer) -> RouteEntry:
    offer, cell = ranked.fit.offer, ranked.fit.cell
    price = offer.prices[cell]
    expected_latency = offer.expected_latency[cell.quality]
    return RouteEntry(
        seller=offer.seller.name,
        adapter=offer.seller.adapter.name,
        model=offer.remote_model,
        cell=cell,
        max_images=offer.images_per_order,
        price=price.price,
        ceiling=price.ceiling,
        timeout_seconds=max(MIN_ATTEMPT_TIMEOUT_SECONDS, ATTEMPT_TIMEOUT_FACTOR * expected_latency.p90),
        pollable=offer.seller.adapter.poll is not None,
        recovery_method=_choose_recovery_method(context, offer),
        account_identity=offer.seller.account.identity,
    )


def _choose_recovery_method(context: EngineContext, offer: Offer) -> RecoveryMethod:
    adapter, account = offer.seller.adapter, offer.seller.account
    if adapter.has_idempotency_key and account.replay_trusted:
        return RecoveryMethod.REPLAY
    if adapter.search is not None:
        return RecoveryMethod.SEARCH
    has_callbacks = context.callback_urls is not None and adapter.callback is not None and account.callback_secrets
    return RecoveryMethod.CALLBACK if has_callbacks else RecoveryMethod.NONE


def _make_order_terms(ranked: RankedOffer, output_format: Format) -> OrderTerms:
    fit = ranked.fit
    offer, cell = fit.offer, fit.cell
    return OrderTerms(
        size=fit.size,
        quality=cell.quality if cell.quality in offer.selectable_qualities else None,
        output_format=output_format if output_format in offer.formats else None,
        substitutions=tuple(f"{substitution.name}: {substitution.detail}" for substitution in fit.substitutions),
    )


async def _build_saved_request(context: EngineContext, job_id: str, command: CreateJobCommand) -> SavedRequest:
    """Announced first: should this process end before the job is accepted, its inputs are swept."""
    request = command.query.request
    if command.inputs or command.mask:
        await context.store.announce_job(job_id, UNCLAIMED_INPUT_TTL_SECONDS)
    sources = [
        await _store_input(context, job_id, f"input-{position}", input_image)
        for position, input_image in enumerate(command.inputs)
    ]
    return SavedRequest(
        operation=request.operation,
        prompt=request.prompt,
        target=request.target,
        quality=request.quality,
        output_format=request.output_format,
        pixels_asked=request.has_explicit_size,
        quality_asked=request.has_explicit_quality,
        sources=tuple(sources),
        mask=await _store_input(context, job_id, "mask", command.mask) if command.mask else None,
        metadata=request.metadata,
        requested_params=command.requested_params,
    )


async def _store_input(context: EngineContext, job_id: str, name: str, input_image: InputImage) -> StoredInput:
    """Under a name of ours: a caller's own is never part of a key, and no seller needs it."""
    extension = input_image.header.format
    key = make_object_key(job_id, f"{name}.{extension}")
    await context.storage.put(key, input_image.content.data, input_image.content.media_type)
    return StoredInput(
        key=key,
        media_type=input_image.content.media_type,
        name=f"{name}.{extension}",
        width=input_image.header.width,
        height=input_image.header.height,
    )
