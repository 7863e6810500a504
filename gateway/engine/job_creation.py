"""Creates a job from a request.

It makes the plan, stores the input images, and saves the job together with its budget hold in one commit.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
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
from gateway.engine.route_entry_builder import OrderableEntry
from gateway.events import ErrorReported
from gateway.jobs.budgets import KeyBudget
from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.document_names import WEBHOOK
from gateway.jobs.first_commit import NewJob, OrderCost, build_first_commit
from gateway.jobs.job_completion import merge_warnings
from gateway.routing.decision_record import PlannedRequest, encode_decision_record, make_decision_record
from gateway.routing.plan import Plan, RoutingQuery, make_plan
from gateway.routing.quote import raise_ceiling
from gateway.routing.routing_request import RequestedParams
from gateway.store.base import Applied, BudgetExceeded, CommitOutcome, StoreOutcomeUnknown, StoreUnavailable
from gateway.store.budget_overrides import load_raised_limits
from gateway.store.partitions import new_job_id

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


class CreateJobResult(Struct, frozen=True):
    """The commit of a new job, the outcome that the store reports, the name of the policy of its plan, and the
    documents of its orders."""

    commit: Commit
    outcome: CommitOutcome
    policy: str
    documents: OrderDocuments


async def create_job(context: EngineContext, command: CreateJobCommand) -> CreateJobResult:
    """Plans a job, stores its inputs and commits it.

    Raises NoOfferAvailable or RoutingError if no offer fits, ClientDisconnected if the client has disconnected, and
    StoreOutcomeUnknown if it is unknown whether the job was saved.
    """
    catalogue = context.catalogue()
    planned = _plan_request(context, catalogue, command)
    plan = planned.plan
    route = _make_route(context, command, plan)
    if not route.entries:
        raise NoOfferAvailable({offer.seller: offer.reasons for offer in plan.excluded})
    # At once, since the signals are only valid for a moment.
    decision_record = encode_decision_record(make_decision_record(catalogue, planned, context.wall_clock()))
    job_id = new_job_id(command.team, context.draw_bytes, context.wall_clock)
    request = await _build_saved_request(context, job_id, command)
    order_documents = OrderDocuments(request, tuple([entry.terms for entry in route.entries]))
    documents = encode_order_documents(order_documents)
    if command.webhook:
        documents[WEBHOOK] = command.webhook.encode()
    new_job = replace(
        _make_new_job(context, catalogue, command, plan),
        id=job_id,
        route=tuple([entry.entry for entry in route.entries]),
        order_costs=route.order_costs,
        documents=documents,
        decision_record=decision_record,
    )
    commit = build_first_commit(new_job, context.wall_clock())
    commit, outcome = await _save_job(context, command, commit)
    return CreateJobResult(commit, outcome, plan.policy, order_documents)


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
    ranked = [offer for offer in plan.ranked if offer.candidate.fit.offer.seller.account.api_key][:MAX_ROUTE_LENGTH]
    quotes = [offer.candidate.quote for offer in ranked]
    fits = [offer.candidate.fit for offer in ranked]
    entries = context.route_entry_maker.make_entries(context, fits, command.query.request) if fits else ()
    return Route(
        tuple(
            [_raise_ceiling(entry, offer.signals.charged_price) for entry, offer in zip(entries, ranked, strict=True)]
        ),
        tuple([OrderCost(quote.order_price, quote.order_ceiling) for quote in quotes]),
    )


def _raise_ceiling(entry: OrderableEntry, charged_price: int | None) -> OrderableEntry:
    """The hold of the job covers what the seller charges, if that is believed and more than configured."""
    ceiling = raise_ceiling(entry.entry.ceiling, charged_price)
    return entry if ceiling == entry.entry.ceiling else replace(entry, entry=replace(entry.entry, ceiling=ceiling))


async def _save_job(context: EngineContext, command: CreateJobCommand, commit: Commit) -> tuple[Commit, CommitOutcome]:
    """Commits the new job while its client is connected. Deletes its inputs if it was not created."""
    job_id = commit.job.id
    if command.is_client_connected is not None and not await command.is_client_connected():
        await discard_inputs(context, job_id)
        raise ClientDisconnected
    try:
        save_commit = partial(commit_job, context)
        outcome = await save_commit(commit)
        if isinstance(outcome, BudgetExceeded):
            commit, outcome = await _commit_with_overrides(context, save_commit, commit, outcome)
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
    return commit, outcome


async def _commit_with_overrides(
    context: EngineContext,
    save_commit: Callable[[Commit], Awaitable[CommitOutcome]],
    commit: Commit,
    refusal: BudgetExceeded,
) -> tuple[Commit, CommitOutcome]:
    """Commits the job with the overrides of its budgets that apply now, if there are any."""
    raised = await load_raised_limits(context.store, commit.budget_limits, context.wall_clock())
    if raised == commit.budget_limits:
        return commit, refusal
    commit = replace(commit, budget_limits=raised)
    return commit, await save_commit(commit)


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
        has_webhook=command.webhook is not None or bool(team and team.webhooks.targets and not command.batch_id),
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
