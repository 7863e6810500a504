"""A gateway that kills itself around the webhooks that it sends."""

import os
import signal
from itertools import count
from typing import Any

from gateway.store.redis import RedisStore
from gateway.store.sqlite import SqliteStore
from gateway.upstream.webhook_client import WebhookAnswer, WebhookClient, WebhookRequest
from tests.harness.child_spec import Hook


def make_webhook_crash_hook(steps: int) -> Hook:
    return Hook("tests.harness.webhook_crashes:install_webhook_crashes", {"steps": steps})


def install_webhook_crashes(steps: int) -> None:
    """Kills this process at this step: before a webhook is removed from the outbox, or before or after it is sent."""
    step_numbers = count(1)

    def crash_at_step() -> None:
        if next(step_numbers) == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    send = WebhookClient.send

    async def send_or_crash(self: WebhookClient, request: WebhookRequest, timeout_seconds: float) -> WebhookAnswer:
        crash_at_step()
        answer = await send(self, request, timeout_seconds)
        crash_at_step()
        return answer

    WebhookClient.send = send_or_crash  # type: ignore[method-assign]
    for store in (SqliteStore, RedisStore):
        acknowledge: Any = store.ack_delivery

        async def acknowledge_or_crash(self: Any, *arguments: Any, acknowledge: Any = acknowledge) -> Any:
            crash_at_step()
            return await acknowledge(self, *arguments)

        store.ack_delivery = acknowledge_or_crash  # type: ignore[method-assign]
