"""The documentation of the routes of webhook targets, and the types of their bodies."""

from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from gateway.access.webhook_requests import AddWebhookTargetRequest, ChangeWebhookTargetRequest, RotateSecretRequest
from gateway.api.reference.route_documentation import (
    ExampleRequest,
    ResponseDocumentation,
    RouteDocumentation,
    make_query_parameter,
)
from gateway.api.response_types import OptionalUnixTime, PageBody, UnixTime
from gateway.api.webhooks.webhook_types import DeliveryBody
from gateway.config.webhook_schema import PayloadKind, WebhookEventName


class TargetSecretBody(TypedDict):
    """A secret of a target, without its value."""

    created_at: UnixTime
    expires_at: Annotated[int | None, Meta(description="null: the newest one, which does not expire.")]


class WebhookTargetBody(TypedDict):
    """A target of the webhooks of a team's jobs."""

    object: Literal["webhook_target"]
    id: str
    team: str
    name: Annotated[str, Meta(description="The `target` of its deliveries.")]
    origin: Annotated[
        Literal["teams.yaml", "store"], Meta(description="Where it is. Those of `teams.yaml` are changed only there.")
    ]
    url: str
    events: list[WebhookEventName]
    payload: PayloadKind
    private: Annotated[bool, Meta(description="The URL may lead into a private network.")]
    enabled: Annotated[bool, Meta(description="A disabled target gets no webhooks.")]
    description: str
    signed_with: Annotated[
        Literal["team_secrets", "own_secrets"] | None,
        Meta(description="null: no secret, so its webhooks are not sent."),
    ]
    secrets: Annotated[list[TargetSecretBody], Meta(description="Its own valid secrets, the newest first.")]
    created_at: OptionalUnixTime


class CreatedSecretBody(WebhookTargetBody):
    """A target with its new secret. Only this response contains the secret."""

    secret: Annotated[str | None, Meta(description="null: it is signed with the secrets of its team.")]


class WebhookTargetListBody(PageBody):
    """Targets, by team and name."""

    data: list[WebhookTargetBody]


def _describe_route(
    summary: str, description: str, status: int, response: ResponseDocumentation, **options: Any
) -> RouteDocumentation:
    """Describes a route. By default it has no example, since that would need an existing target."""
    return RouteDocumentation(
        tag="Administration",
        summary=summary,
        description=description,
        responses={status: response},
        **({"examples": {}, "errors": ("webhook_target_not_found",)} | options),
    )


_CHANGE_ERRORS = ("webhook_target_not_found", "webhook_target_conflict")
WEBHOOK_TARGET_DOCUMENTATION = {
    "list_webhook_targets": _describe_route(
        "List webhook targets",
        "The targets of all teams, of `teams.yaml` and of the store.",
        200,
        ResponseDocumentation("The targets.", WebhookTargetListBody),
        parameters=(make_query_parameter("team", "Only targets of this team."),),
        errors=(),
        examples={"default": ExampleRequest(query="team=design")},
    ),
    "add_webhook_target": _describe_route(
        "Add a webhook target",
        "Webhooks of all jobs of the team go to it. It has a signing secret of its own if its team has none in "
        "`teams.yaml`, or with `own_secret`. Only this response contains the secret.",
        201,
        ResponseDocumentation("The target.", CreatedSecretBody, ("location",)),
        body=AddWebhookTargetRequest,
        errors=("invalid_value", "webhook_target_conflict"),
        examples={
            "default": ExampleRequest(
                body={
                    "team": "design",
                    "url": "https://finance.example.com/budgets",
                    "events": ["budget.threshold_reached"],
                    "own_secret": True,
                }
            )
        },
    ),
    "get_webhook_target": _describe_route(
        "Get a webhook target",
        "A target without its secrets.",
        200,
        ResponseDocumentation("The target.", WebhookTargetBody),
    ),
    "change_webhook_target": _describe_route(
        "Change a webhook target",
        "Changes what the body contains, on all replicas within 5 seconds. A changed URL also holds for webhooks that "
        "are pending; those of a disabled target are given up.",
        200,
        ResponseDocumentation("The target.", WebhookTargetBody),
        body=ChangeWebhookTargetRequest,
        errors=("invalid_value", *_CHANGE_ERRORS),
    ),
    "remove_webhook_target": _describe_route(
        "Remove a webhook target",
        "Its pending webhooks are given up.",
        200,
        ResponseDocumentation("The target that was removed.", WebhookTargetBody),
        errors=_CHANGE_ERRORS,
    ),
    "rotate_webhook_secret": _describe_route(
        "Rotate the secret of a webhook target",
        "Makes a new secret. For the `overlap`, webhooks have a signature with each of the two.",
        201,
        ResponseDocumentation("The target with its new secret.", CreatedSecretBody),
        body=RotateSecretRequest,
        errors=("invalid_value", *_CHANGE_ERRORS),
    ),
    "test_webhook_target": _describe_route(
        "Test a webhook target",
        "Sends a webhook of the type `webhook.test`. GET the delivery for its outcome.",
        202,
        ResponseDocumentation("The delivery, which is pending.", DeliveryBody, ("location",)),
        errors=(*_CHANGE_ERRORS, "webhooks_not_configured", "invalid_value"),
    ),
}
