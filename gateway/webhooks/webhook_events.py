"""The events of webhooks: of the sender, and of admins that change targets."""

from gateway.events import Event


class WebhookAttempted(Event, frozen=True, kw_only=True):
    """An attempt to send a webhook ended. Its line is at level debug, unless the webhook is given up.

    `name`: of the webhook's event; `target`: its name in the configuration, None for the URL that a job names itself;
    `outcome`: of the attempt; `status`: of the response; `delivery_status`: `delivered`, `pending` if another attempt
    follows, or `failed`; `age_seconds`: since the event.
    """

    at: float
    delivery: str
    name: str
    team: str
    job: str | None
    target: str | None
    outcome: str
    status: int | None
    attempt: int
    seconds: float
    delivery_status: str
    age_seconds: float


class WebhookTargetChanged(Event, frozen=True, kw_only=True):
    """An admin added, changed or removed a target of webhooks, or rotated its secret.

    `action`: that of the event of admins. `actor`: the id of the admin's key, or the user of the command line.
    """

    action: str
    team: str
    target: str
    actor: str
    source: str
