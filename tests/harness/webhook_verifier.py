"""Verifies webhooks as receivers do, with the package of Standard Webhooks."""

from typing import Any

from standardwebhooks import Webhook

from tests.harness.webhook_receiver import WEBHOOK_SECRET, SentWebhook


def verify_webhook(webhook: SentWebhook, secret: str = WEBHOOK_SECRET) -> dict[str, Any]:
    """Returns the event. Raises WebhookVerificationError if it is not signed with this secret."""
    event: dict[str, Any] = Webhook(secret).verify(webhook.body, dict(webhook.headers))
    return event
