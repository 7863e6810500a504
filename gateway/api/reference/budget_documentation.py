"""The documentation of the routes of budgets, and the types of their bodies."""

from typing import Annotated, Literal, TypedDict

from msgspec import Meta

from gateway.access.budget_administration import RaiseBudgetRequest
from gateway.api.reference.route_documentation import (
    ExampleRequest,
    ResponseDocumentation,
    RouteDocumentation,
    make_query_parameter,
)
from gateway.api.response_types import PageBody
from gateway.jobs.budgets import WindowKind


class BudgetOverrideBody(TypedDict):
    """A temporary override of a limit."""

    object: Literal["budget_override"]
    id: str
    team: str
    key_id: Annotated[str | None, Meta(description="null: the budget of the team.")]
    window: WindowKind
    configured: Annotated[float, Meta(description="The limit when it was raised, in USD.")]
    amount: Annotated[float, Meta(description="The raised limit, in USD.")]
    created_at: Annotated[int, Meta(description="Seconds since 1970.")]
    until: Annotated[int, Meta(description="When it ends, in seconds since 1970.")]
    reason: str
    actor: Annotated[str, Meta(description="The id of the admin's key, or the user of the command line.")]


class BudgetStateBody(TypedDict):
    """A limit of a team, or of an API key, in USD."""

    object: Literal["budget"]
    team: str
    key_id: Annotated[
        str | None, Meta(description="The first key of its line of rotations, or its reference; null: of the team.")
    ]
    window: WindowKind
    period: Annotated[str, Meta(description="Like `2026-11-28`, `2026-W48`, `2026-11` (UTC) or `lifetime`.")]
    configured: Annotated[float, Meta(description="The limit without overrides.")]
    limit: Annotated[float, Meta(description="The limit that applies now.")]
    spent: float
    held: Annotated[float, Meta(description="Held for running jobs.")]
    left: float
    overrides: Annotated[list[BudgetOverrideBody], Meta(description="Those in force, the newest first.")]


class BudgetListBody(PageBody):
    """Limits, by team."""

    data: list[BudgetStateBody]


BUDGET_ROUTE_DOCUMENTATION = {
    "list_budgets": RouteDocumentation(
        tag="Administration",
        summary="List budgets",
        description="The limits of teams and API keys, with what is spent, held and left.",
        parameters=(make_query_parameter("team", "Only budgets of this team and its keys."),),
        responses={200: ResponseDocumentation("The limits.", BudgetListBody)},
        examples={"default": ExampleRequest(query="team=design")},
    ),
    "raise_budget": RouteDocumentation(
        tag="Administration",
        summary="Raise a budget for a while",
        description="Raises one limit, at once on all replicas, until a time (`until`) or for a `duration`.",
        body=RaiseBudgetRequest,
        responses={201: ResponseDocumentation("The override.", BudgetOverrideBody)},
        errors=("invalid_value",),
        examples={
            "default": ExampleRequest(
                body={
                    "team": "marketing",
                    "window": "day",
                    "amount": "80.00",
                    "duration": "24h",
                    "reason": "launch of the spring catalogue",
                }
            )
        },
    ),
    "end_budget_override": RouteDocumentation(
        tag="Administration",
        summary="End a budget override",
        description="The configured limit applies again, at once. Jobs that were accepted continue.",
        responses={200: ResponseDocumentation("The override that ended.", BudgetOverrideBody)},
        errors=("budget_override_not_found",),
    ),
}
