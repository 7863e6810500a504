"""The documentation of the routes of webhooks, by the name of the handler."""

from typing import Any

from gateway.api.reference.route_documentation import (
    ExampleRequest,
    ResponseDocumentation,
    RouteDocumentation,
    make_query_parameter,
)
from gateway.api.webhooks.webhook_types import DeliveryBody, DeliveryListBody, WebhookTestRequest
from gateway.webhooks.webhook_records import DeliveryStatus


def _describe_route(
    summary: str, description: str, status: int, response: ResponseDocumentation, **options: Any
) -> RouteDocumentation:
    """Describes a route. By default it has no example, since that would need an existing delivery."""
    return RouteDocumentation(
        tag="Webhooks",
        summary=summary,
        description=description,
        responses={status: response},
        **({"examples": {}} | options),
    )


WEBHOOK_ROUTE_DOCUMENTATION = {
    "list_deliveries": _describe_route(
        "List deliveries",
        "The team's webhooks with their attempts, the newest first. With filters, a page may have fewer entries than "
        "`limit` and still `has_more`.",
        200,
        ResponseDocumentation("The deliveries.", DeliveryListBody),
        errors=("invalid_value", "unknown_parameter"),
        parameters=(
            make_query_parameter(
                "limit", "Maximum number of entries on a page.", {"type": "integer", "minimum": 1, "maximum": 100}
            ),
            make_query_parameter("after", "`last_id` of the previous page."),
            make_query_parameter("job", "Lists only webhooks of this job."),
            make_query_parameter(
                "status",
                "Lists only webhooks with this status.",
                {"type": "string", "enum": [status.value for status in DeliveryStatus]},
            ),
        ),
        examples={"default": ExampleRequest()},
    ),
    "get_delivery": _describe_route(
        "Get a delivery",
        "A webhook to one target, with its attempts. The answers of the target are not stored. An admin key gets those "
        "of all teams.",
        200,
        ResponseDocumentation("The delivery.", DeliveryBody),
        errors=("delivery_not_found",),
    ),
    "redeliver": _describe_route(
        "Send a webhook again",
        "Sends the webhook again, with the same id, whatever became of it. It is repeated like a new one.",
        202,
        ResponseDocumentation("The delivery, which is pending.", DeliveryBody),
        errors=("delivery_not_found", "webhooks_not_configured"),
    ),
    "send_test_webhook": _describe_route(
        "Send a test",
        "Sends a webhook of the type `webhook.test`, signed like all others. GET the delivery for its outcome.",
        202,
        ResponseDocumentation("The delivery, which is pending.", DeliveryBody, ("location",)),
        body=WebhookTestRequest,
        examples={"default": ExampleRequest(body={"webhook": "https://example.com/images"})},
        errors=("webhooks_not_configured",),
    ),
}
