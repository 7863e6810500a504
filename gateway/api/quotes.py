"""`POST /v1/quotes`: the plan of a request, without a job and without an order."""

import asyncio
from typing import Any

from litestar import Response, post
from msgspec import Struct
from msgspec.structs import asdict

from gateway.api.access_control import READ
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.authentication import get_principal
from gateway.api.budget_refusal import describe_owner, describe_window
from gateway.api.input_images import InputImages, get_mask_ref, list_input_refs, load_input_images
from gateway.api.job_admission import require_allowed_policy
from gateway.api.job_submission import JobRequest
from gateway.api.json_responses import json_response
from gateway.api.parameter_table import CreateJobRequest
from gateway.api.request_parsing import parse_request
from gateway.api.routing_query_builder import list_query_warnings, to_invalid_value_error, to_routing_query
from gateway.api.serializers import encode_usd
from gateway.catalogue import Catalogue
from gateway.engine.job_creation import CreateJobCommand, preview_commit
from gateway.jobs.budgets import BudgetLimit, split_owner
from gateway.jobs.commit import Commit
from gateway.money import format_usd
from gateway.routing.plan import ExcludedOffer, Plan, RankedOffer, RoutingError, RoutingQuery, make_plan
from gateway.routing.plan_json import format_rule
from gateway.store.budget_balances import load_balance
from gateway.store.budget_overrides import load_raised_limits
from gateway.store.ledger_totals import BudgetBalance


@post("/v1/quotes", status_code=200, opt=READ)
async def create_quote(request: HttpRequest) -> Response[bytes]:
    """Plans the request that the body of `POST /v1/jobs` would create, with the signals of this moment.

    It orders nothing, holds no budget and promises no price: the same request a moment later may go elsewhere.
    `budgets` and a warning show whether the budgets of the team and of the API key suffice.
    """
    context = get_context(request)
    job_request = await parse_request(context, request, CreateJobRequest)
    require_allowed_policy(get_principal(request).policies, job_request.params.policy)
    catalogue = context.catalogue()
    input_images = await _load_inputs(context, job_request)
    query = to_routing_query(catalogue, job_request.params, job_request.team, job_request.operation, input_images)
    plan = plan_request(context, query)
    command = CreateJobCommand(query=query, prompt="", team=job_request.team, key_budget=job_request.key_budget)
    budgets = await _load_budgets(context, preview_commit(context.engine.context, command, plan))
    warnings = (
        *job_request.warnings,
        *list_query_warnings(query, job_request.params, input_images),
        *(_describe_shortage(budget) for budget in budgets if not budget.is_sufficient),
    )
    quote = _serialize_quote(catalogue, query, plan, warnings)
    return json_response(quote | {"budgets": [_serialize_budget(budget) for budget in budgets]}, 200, {})


class BudgetState(Struct, frozen=True):
    """A budget of the team or of the API key, and what the request would hold of it, in micro-USD."""

    limit: BudgetLimit
    balance: BudgetBalance
    hold: int

    @property
    def left(self) -> int:
        return max(0, self.limit.amount - self.balance.spent - self.balance.held)

    @property
    def is_sufficient(self) -> bool:
        return self.hold <= self.left


async def _load_budgets(context: ApiContext, commit: Commit | None) -> list[BudgetState]:
    """Loads the limited budgets of a job, the longest windows first. Empty if no seller can be used."""
    limits = commit.budget_limits if commit else ()
    if limits:
        limits = await load_raised_limits(context.store, limits, context.wall_clock())
    balances = await asyncio.gather(*(load_balance(context.store, limit.owner, limit.window) for limit in limits))
    hold = commit.job.hold if commit else 0
    return [BudgetState(limit, balance, hold) for limit, balance in zip(limits, balances, strict=True)]


def _describe_shortage(budget: BudgetState) -> str:
    return (
        f"budget_exceeded: the request would be refused now: it holds ${format_usd(budget.hold)}, and "
        f"{describe_owner(budget.limit)} has ${format_usd(budget.left)} of ${format_usd(budget.limit.amount)} left "
        f"{describe_window(budget.limit)}, with ${format_usd(budget.balance.held)} held for running jobs"
    )


def _serialize_budget(budget: BudgetState) -> dict[str, Any]:
    return {
        "owner": "key" if split_owner(budget.limit.owner)[1] else "team",
        "kind": budget.limit.window.kind,
        "window": budget.limit.window.name,
        "limit": encode_usd(budget.limit.amount),
        "spent": encode_usd(budget.balance.spent),
        "held": encode_usd(budget.balance.held),
        "left": encode_usd(budget.left),
        "hold": encode_usd(budget.hold),
        "sufficient": budget.is_sufficient,
    }


async def _load_inputs(context: ApiContext, job_request: JobRequest[CreateJobRequest]) -> InputImages:
    params = job_request.params
    with context.input_fetcher.open_request(job_request.team) as fetcher:
        return await load_input_images(fetcher, list_input_refs(params), get_mask_ref(params))


def plan_request(context: ApiContext, query: RoutingQuery) -> Plan:
    """Plans a request with the signals of this moment. Raises ApiError if a parameter cannot be fulfilled."""
    engine, catalogue = context.engine.context, context.catalogue()
    signals = engine.health.get_catalogue_signals(catalogue, engine.wall_clock(), engine.limits.get_load)
    try:
        return make_plan(catalogue, query, signals, context.draw_random(), engine.canaries.progress)
    except RoutingError as error:
        raise to_invalid_value_error(error) from error


def _serialize_quote(
    catalogue: Catalogue, query: RoutingQuery, plan: Plan, warnings: tuple[str, ...]
) -> dict[str, Any]:
    request, target = query.request, query.request.target
    ranked = [_serialize_ranked_offer(offer) for offer in plan.ranked]
    substitutions = plan.ranked[0].fit.substitutions if plan.ranked else ()
    return {
        "object": "quote",
        "operation": request.operation,
        "model": request.model,
        "n": request.n,
        "size": f"{target.width}x{target.height}",
        "resolution": target.resolution,
        "aspect_ratio": target.ratio,
        "quality": request.quality,
        "output_format": request.output_format,
        "policy": plan.policy,
        "rule": format_rule(catalogue, plan),
        "config": plan.config_hash,
        "winner": ranked[0] if ranked else None,
        "runner_up": ranked[1] if len(ranked) > 1 else None,
        "ranked": ranked,
        "split": list(plan.split_counts),
        "excluded": [_serialize_excluded_offer(offer) for offer in plan.excluded],
        "warnings": [*warnings, *plan.warnings, *(f"{entry.name}: {entry.detail}" for entry in substitutions)],
    }


def _serialize_ranked_offer(ranked: RankedOffer) -> dict[str, Any]:
    quote, signals = ranked.quote, ranked.signals
    return {
        "seller": ranked.candidate.seller,
        "price": encode_usd(quote.total),
        "price_per_image": encode_usd(quote.per_image),
        "ceiling": encode_usd(quote.ceiling),
        "orders": quote.orders,
        "p50": ranked.expected_seconds,
        "p90": ranked.candidate.p90_seconds,
        "measured": signals.p50 is not None,
        "fidelity": ranked.fidelity,
        "substitutions": [entry.name for entry in ranked.fit.substitutions],
        "reasons": [*ranked.reasons, *(f"{entry.name}: {entry.detail}" for entry in ranked.fit.substitutions)],
        "signals": asdict(signals),
    }


def _serialize_excluded_offer(offer: ExcludedOffer) -> dict[str, Any]:
    """Serializes why the seller cannot be used, and what it would cost if it can express the request."""
    candidate = offer.candidate
    return {
        "seller": offer.seller,
        "reasons": list(offer.reasons),
        "price": encode_usd(candidate.quote.total) if candidate else None,
    }
