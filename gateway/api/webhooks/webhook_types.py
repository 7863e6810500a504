"""The types of the JSON bodies of the API of webhooks, and of the webhooks themselves."""

from typing import Annotated, Literal, TypedDict

from msgspec import Meta, Struct

from gateway.api.response_types import JobBody, OptionalText, UnixTime
from gateway.jobs.budgets import WindowKind
from gateway.jobs.job import JobState
from gateway.webhooks.webhook_records import DeliveryStatus, WebhookOutcome


class WebhookTestRequest(Struct, forbid_unknown_fields=True):
    """Where to send a test: to one of the team's targets, or to the URL that jobs would name."""

    target: Annotated[str, Meta(description="The name of a target in the configuration.", examples=["orders"])] = ""
    webhook: Annotated[
        str, Meta(description="An https URL of a public host.", examples=["https://example.com/images"])
    ] = ""


class DeliveryAttemptBody(TypedDict):
    """One attempt to deliver a webhook."""

    at: Annotated[float, Meta(description="When it began, in seconds since 1970, UTC.")]
    seconds: Annotated[float, Meta(description="How long it took.")]
    outcome: WebhookOutcome
    status: Annotated[int | None, Meta(description="The status of the response; null without a response.")]


class DeliveryBody(TypedDict):
    """A webhook to one target, with its attempts."""

    id: Annotated[str, Meta(description="The `webhook-id` of all its attempts.")]
    object: Literal["webhook.delivery"]
    event: Annotated[
        str, Meta(description="`job.` and its final status, `budget.threshold_reached`, or `webhook.test`.")
    ]
    job: OptionalText
    target: Annotated[
        str | None, Meta(description="The target in the configuration; null for the URL that the job names itself.")
    ]
    host: Annotated[str, Meta(description="The host of the URL.")]
    created_at: UnixTime
    status: DeliveryStatus
    next_attempt_at: Annotated[int | None, Meta(description="The earliest time of the next attempt.")]
    attempts: list[DeliveryAttemptBody]


class DeliveryListBody(TypedDict):
    """A page of deliveries, the newest first."""

    object: Literal["list"]
    data: list[DeliveryBody]
    has_more: bool
    first_id: OptionalText
    last_id: Annotated[
        str | None, Meta(description="The `after` of the next page. It may be a delivery that is not listed.")
    ]


class ThinJobBody(TypedDict):
    """The job in a thin webhook."""

    id: str
    object: Literal["job"]
    status: JobState


class ThresholdBody(TypedDict):
    """A budget that has spent a soft threshold of its limit, in USD."""

    object: Literal["budget"]
    team: str
    key_id: Annotated[str | None, Meta(description="Of the API key; null for the budget of the team.")]
    window: WindowKind
    period: Annotated[str, Meta(description="Like `2026-11-28`, `2026-W48`, `2026-11` (UTC) or `lifetime`.")]
    threshold: Annotated[int, Meta(description="In percent of the limit.")]
    limit: float
    spent: float


class WebhookBody(TypedDict):
    """The body of a webhook."""

    id: Annotated[str, Meta(description="The same as `webhook-id`.")]
    object: Literal["event"]
    type: Annotated[
        str, Meta(description="`job.` and its final status, `budget.threshold_reached`, or `webhook.test`.")
    ]
    created_at: Annotated[int, Meta(description="When it happened, in seconds since 1970, UTC.")]
    timestamp: Annotated[str, Meta(description="The same time, as RFC 3339.")]
    data: Annotated[
        ThinJobBody | JobBody | ThresholdBody,
        Meta(description="The job: thin or full, as the team has configured. Or the budget."),
    ]
