"""Creates a job from a request.

It makes the plan, stores the input images, and saves the job together with its budget hold in one commit.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.assets.backend import ImageData
from gateway.assets.image_header import ImageHeader
from gateway.assets.object_keys import make_object_key, make_object_prefix
from gateway.assets.storage import StorageError
from gateway.catalogue import Catalogue
from gateway.config.budget_schema import BudgetConfig
from gateway.engine.engine_context import EngineContext
from gateway.engine.job_documents import OrderDocuments, SavedRequest, StoredInput, encode_order_documents
from gateway.engine.measured_commits import commit_job
from gateway.engine.moderation import InputInQuestion, RequestInQuestion, check_request
from gateway.engine.route_entry_builder import OrderableEntry
from gateway.events import ErrorReported
from gateway.jobs.budgets import KeyBudget
from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.document_names import WEBHOOK
from gateway.jobs.first_commit import NewJob, OrderCost, build_first_commit
from gateway.jobs.job_completion import merge_warnings
from gateway.routing.decision_record import (
    PlannedRequest,
    encode_decision_record,
    get_request_cell,
    make_decision_record,
)
from gateway.routing.degradation import describe_degradation, list_degraded_requests
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from gateway.routing.quote import raise_ceiling
from gateway.routing.routing_request import RequestedParams
from gateway.store.base import Applied, BudgetExceeded, CommitOutcome, StoreOutcomeUnknown, StoreUnavailable
from gateway.store.budget_overrides import load_raised_limits
from gateway.store.partitions import new_job_id
from providers.orders import Cell

# How many route entries a job keeps: the best of its plan.
MAX_ROUTE_LENGTH = 8


class NoOfferAvailable(Exception):
    """No configured offer can fulfil the request. `reasons`: the reasons for each seller."""

    def __init__(self, reasons: Mapping[str, Sequence[str]]) -> None:
        super().__init__("no configured offer can fulfil this request")
        self.reasons = reasons


class ClientDisconnected(Exception):
    """The client disconnected before anything was ordered.

    A job that was already saved stays unconfirmed: it is bought if the client retries, otherwise it is withdrawn.
    """


class InputImage(Struct, frozen=True):
    """An input image as received, with its header parsed from the bytes."""

    data: ImageData
    header: ImageHeader


class CreateJobCommand(Struct, frozen=True, kw_only=True):
    """The content of a job to create.

    `requested_params`: the image parameters as the team sent them. `warnings`: warnings about these parameters. Both
    are returned to the team before anything is bought. `draw`: the random number that breaks ties of the ranking.
    `is_client_connected` is called right before the job is saved; if it is None, the job is created even if its request
    ends early. `has_client_disconnected` is called after the job is saved, since saving may take long. `key_id`: of the
    request's API key; `key_budget`: its budget, if it has one. `echoed_params`: what only the API's responses repeat.
    `batch_id`: of the batch that the job is a line of. `deadline_seconds`: None for the configured deadline.
    `traceparent`, `tracestate`: of the request, if it is traced.
    """

    query: RoutingQuery
    prompt: str
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
    output_compression: int | None = None
    key_id: str = ""
    key_budget: KeyBudget | None = None
    labels: tuple[str, ...] = ()
    echoed_params: Mapping[str, Any] = {}
    batch_id: str = ""
    deadline_seconds: float | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class Route(Struct, frozen=True):
    """The sellers that a job may use, best first, and what each of their orders costs besides its images."""

    entries: tuple[OrderableEntry, ...]
    order_costs: tuple[OrderCost, ...]


class _PlannedJob(Struct, frozen=True):
    """A job with its plan and its route, which may be empty."""

    catalogue: Catalogue
    command: CreateJobCommand
    plan: Plan
    route: Route
    decision_record: bytes


class _PreparedJob(Struct, frozen=True):
    """A job that can be committed."""

    commit: Commit
    policy: str
    documents: OrderDocuments


class CreateJobResult(Struct, frozen=True):
    """The commit of a new job, the outcome that the store reports, the name of the policy of its plan, and the
    documents of its orders."""

    commit: Commit
    outcome: CommitOutcome
    policy: str
    documents: OrderDocuments


async def create_job(context: EngineContext, command: CreateJobCommand) -> CreateJobResult:
    """Plans a job, asks the moderation, stores the inputs and commits the job.

    Raises NoOfferAvailable or RoutingError if no offer fits, RequestRefused or ModerationUnavailable if the moderation
    does not allow it, ClientDisconnected if the client has disconnected, and StoreOutcomeUnknown if it is unknown
    whether the job was saved.
    """
    planned = _plan_orderable_job(context, command)
    if (hook := planned.catalogue.find_moderation_hook("before", command.team)) is not None:
        await check_request(context, hook, _make_question(command))
        # The answer may have taken seconds: the plan is made again from the signals and the configuration of now.
        planned = _plan_orderable_job(context, command)
    job_id = new_job_id(command.team, context.draw_bytes, context.wall_clock)
    request = await _build_saved_request(context, job_id, command)
    prepared = _prepare_job(context, planned, job_id, request)
    team = planned.catalogue.teams.get(command.team)
    may_degrade = team is not None and team.over_budget == "degrade"
    degraded = _iterate_degraded_jobs(context, planned.catalogue, command, prepared) if may_degrade else iter(())
    prepared, outcome = await _save_job(context, command, prepared, degraded)
    return CreateJobResult(prepared.commit, outcome, prepared.policy, prepared.documents)


def _plan_orderable_job(context: EngineContext, command: CreateJobCommand) -> _PlannedJob:
    planned = _make_planned_job(context, context.catalogue(), command)
    if not planned.route.entries:
        raise NoOfferAvailable({offer.seller: offer.reasons for offer in planned.plan.excluded})
    return planned


def _make_planned_job(
    context: EngineContext, catalogue: Catalogue, command: CreateJobCommand, degraded_from: Cell | None = None
) -> _PlannedJob:
    planned = replace(_plan_request(context, catalogue, command), degraded_from=degraded_from)
    route = _make_route(context, command, planned.plan)
    # At once, since the signals are only valid for a moment.
    decision_record = encode_decision_record(make_decision_record(catalogue, planned, context.wall_clock()))
    return _PlannedJob(catalogue, command, planned.plan, route, decision_record)


def _prepare_job(context: EngineContext, planned: _PlannedJob, job_id: str, request: SavedRequest) -> _PreparedJob:
    command, route = planned.command, planned.route
    order_documents = OrderDocuments(request, tuple([entry.terms for entry in route.entries]))
    documents = encode_order_documents(order_documents)
    if command.webhook:
        documents[WEBHOOK] = command.webhook.encode()
    new_job = replace(
        _make_new_job(context, planned.catalogue, command, planned.plan),
        id=job_id,
        route=tuple([entry.entry for entry in route.entries]),
        order_costs=route.order_costs,
        documents=documents,
        decision_record=planned.decision_record,
    )
    return _PreparedJob(build_first_commit(new_job, context.wall_clock()), planned.plan.policy, order_documents)


def _iterate_degraded_jobs(
    context: EngineContext, catalogue: Catalogue, command: CreateJobCommand, first: _PreparedJob
) -> Iterator[_PreparedJob]:
    """Yields the job with lower quality and then with lower resolution. Its inputs are stored already."""
    asked = command.query.request
    for request in list_degraded_requests(catalogue.models[asked.model], asked, command.requested_params):
        degraded = replace(
            command,
            query=replace(command.query, request=request),
            warnings=(*command.warnings, describe_degradation(asked, request)),
        )
        planned = _make_planned_job(context, catalogue, degraded, get_request_cell(asked))
        if planned.route.entries:
            saved_request = replace(first.documents.request, routing=request)
            yield _prepare_job(context, planned, first.commit.job.id, saved_request)


def _make_question(command: CreateJobCommand) -> RequestInQuestion:
    request, target = command.query.request, command.query.request.target
    roles = [*(("input", image) for image in command.inputs), *([("mask", command.mask)] if command.mask else [])]
    return RequestInQuestion(
        team=command.team,
        prompt=command.prompt,
        model=request.model,
        operation=request.operation,
        n=request.n,
        size=f"{target.width}x{target.height}",
        quality=request.quality,
        inputs=tuple([InputInQuestion(role, image.header.format.media_type, image.data) for role, image in roles]),
        traceparent=command.traceparent,
    )


def preview_commit(context: EngineContext, command: CreateJobCommand, plan: Plan) -> Commit | None:
    """Returns the first commit that the job would have, with its hold and its limits. None if no seller can be used."""
    route = _make_route(context, command, plan)
    if not route.entries:
        return None
    new_job = replace(
        _make_new_job(context, context.catalogue(), command, plan),
        route=tuple([entry.entry for entry in route.entries]),
        order_costs=route.order_costs,
    )
    return build_first_commit(new_job, context.wall_clock())


def _make_route(context: EngineContext, command: CreateJobCommand, plan: Plan) -> Route:
    """Makes the route of a job: the best offers of its plan whose account has a key."""
    usable = [offer.candidate for offer in plan.ranked if offer.candidate.fit.offer.seller.account.api_key]
    if not (ranked := usable[:MAX_ROUTE_LENGTH]):
        return Route((), ())
    entries, order_costs, fits = [], [], [candidate.fit for candidate in ranked]
    made = context.route_entry_maker.make_entries(context, fits, command.query.request)
    for entry, candidate in zip(made, ranked, strict=True):
        entries.append(_raise_ceiling(entry, candidate.signals.charged_price))
        order_costs.append(OrderCost(candidate.quote.order_price, candidate.quote.order_ceiling))
    return Route(tuple(entries), tuple(order_costs))


def _raise_ceiling(entry: OrderableEntry, charged_price: int | None) -> OrderableEntry:
    """The hold of the job covers what the seller charges, if that is believed and more than configured."""
    ceiling = raise_ceiling(entry.entry.ceiling, charged_price)
    return entry if ceiling == entry.entry.ceiling else replace(entry, entry=replace(entry.entry, ceiling=ceiling))


async def _save_job(
    context: EngineContext, command: CreateJobCommand, prepared: _PreparedJob, degraded: Iterator[_PreparedJob]
) -> tuple[_PreparedJob, CommitOutcome]:
    """Commits the new job while its client is connected: the first of the degraded ones that fits, if it exceeds a
    budget itself. Deletes its inputs if it was not created."""
    job_id = prepared.commit.job.id
    if command.is_client_connected is not None and not await command.is_client_connected():
        await discard_inputs(context, job_id)
        raise ClientDisconnected
    try:
        save_commit = partial(commit_job, context)
        outcome = await save_commit(prepared.commit)
        if isinstance(outcome, BudgetExceeded):
            prepared, outcome = await _commit_what_fits(context, save_commit, prepared, outcome, degraded)
    except StoreOutcomeUnknown:
        # The job may be saved already, or later. So its inputs are kept, for a retry by its client.
        raise
    except StoreUnavailable:
        await discard_inputs(context, job_id)
        raise
    if not isinstance(outcome, Applied):
        await discard_inputs(context, job_id)
    elif command.has_client_disconnected is not None and command.has_client_disconnected():
        raise ClientDisconnected
    return prepared, outcome


async def _commit_what_fits(
    context: EngineContext,
    save_commit: Callable[[Commit], Awaitable[CommitOutcome]],
    asked: _PreparedJob,
    refusal: BudgetExceeded,
    degraded: Iterator[_PreparedJob],
) -> tuple[_PreparedJob, CommitOutcome]:
    """Commits the job with the overrides of its budgets that apply now, if there are any, or else the first of the
    degraded ones that fits. If none fits, returns the refusal of the job as asked for."""
    limits = asked.commit.budget_limits
    raised = await load_raised_limits(context.store, limits, context.wall_clock())
    for prepared in chain([] if raised == limits else [asked], degraded):
        commit = replace(prepared.commit, budget_limits=raised)
        outcome = await save_commit(commit)
        if not isinstance(outcome, BudgetExceeded):
            return replace(prepared, commit=commit), outcome
        if prepared is asked:
            refusal = outcome
    return asked, refusal


def _plan_request(context: EngineContext, catalogue: Catalogue, command: CreateJobCommand) -> PlannedRequest:
    signals = context.health.get_catalogue_signals(catalogue, context.wall_clock(), context.limits.get_load)
    return PlannedRequest(
        query=command.query,
        signals=signals,
        draw=command.draw,
        plan=make_plan(catalogue, command.query, signals, command.draw, context.canaries.progress),
        canaries=context.canaries.progress,
        requested=command.requested_params,
        largest_input_edge=max(
            (max(input_image.header.width, input_image.header.height) for input_image in command.inputs), default=0
        ),
    )


async def discard_inputs(context: EngineContext, job_id: str) -> None:
    """Deletes the stored inputs of a job that was not created."""
    try:
        await context.storage.delete_prefix(make_object_prefix(job_id))
    except StorageError as error:
        context.emit(ErrorReported(component="input_uploads", message=type(error).__name__, job=job_id))


def _make_new_job(context: EngineContext, catalogue: Catalogue, command: CreateJobCommand, plan: Plan) -> NewJob:
    request = command.query.request
    team = catalogue.teams.get(command.team)
    budget = team.budget if team else BudgetConfig()
    return NewJob(
        id="",
        team=command.team,
        model=request.model,
        n=request.n,
        route=(),
        deadline_seconds=command.deadline_seconds or catalogue.gateway.jobs.deadline_seconds,
        max_attempts=plan.failover.attempts,
        reorder_on_unknown=plan.failover.on_unknown == "reorder",
        config_hash=plan.config_hash,
        has_webhook=command.webhook is not None
        or (not command.batch_id and catalogue.has_webhook_targets(command.team)),
        warnings=merge_warnings((), (*command.warnings, *plan.warnings)),
        budget_limits=budget.to_limits(),
        key_budget=command.key_budget,
        idempotency=command.idempotency,
        timing=context.timing.jobs,
        retention=catalogue.get_job_retention(command.team),
        key_id=command.key_id,
        labels=command.labels,
        batch_id=command.batch_id,
        traceparent=command.traceparent,
        tracestate=command.tracestate,
        split_count=max(1, len(plan.split_counts)),
    )


async def _build_saved_request(context: EngineContext, job_id: str, command: CreateJobCommand) -> SavedRequest:
    """Stores the input images, and returns the request to save.

    The job id is announced first: if this process crashes before the job is accepted, the inputs are deleted.
    """
    if command.inputs or command.mask:
        await context.store.announce_job(job_id, context.timing.maintenance.unclaimed_input_ttl_seconds)
    sources = [
        await _store_input(context, job_id, f"input-{position}", input_image)
        for position, input_image in enumerate(command.inputs)
    ]
    return SavedRequest(
        routing=command.query.request,
        prompt=command.prompt,
        sources=tuple(sources),
        mask=await _store_input(context, job_id, "mask", command.mask) if command.mask else None,
        requested_params=command.requested_params,
        output_compression=command.output_compression,
        echoed_params=command.echoed_params,
    )


async def _store_input(context: EngineContext, job_id: str, name: str, input_image: InputImage) -> StoredInput:
    """Stores one input under a generated name. The file name of the client never becomes part of a key and is never
    sent to a seller."""
    image_format = input_image.header.format
    key = make_object_key(job_id, f"{name}.{image_format}")
    await context.storage.put(key, input_image.data, image_format.media_type)
    return StoredInput(
        key=key,
        media_type=image_format.media_type,
        name=f"{name}.{image_format}",
        width=input_image.header.width,
        height=input_image.header.height,
    )
