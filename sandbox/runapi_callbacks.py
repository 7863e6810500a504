"""RunAPI's callbacks: the finished task, signed, sent until somebody answers 2xx."""

import base64
import hashlib
import hmac
import time
import uuid
from dataclasses import replace

import msgspec

from sandbox.callbacks import Delivery, RetryPolicy
from sandbox.mischief import Kind
from sandbox.runapi_tasks import RunapiState, Task, envelope

# What a receiver verifies with: the account's callback secret. Public, since nothing here is secret.
CALLBACK_SECRET = "cnVuYXBpLXNhbmRib3gtY2FsbGJhY2stc2VjcmV0"  # noqa: S105
WRONG_SECRET = base64.b64encode(b"somebody else's secret").decode()

# The vendor's schedule is unknown. All attempts fall within the 300 s for which a timestamp is good.
RETRIES = RetryPolicy(delays=(5, 20, 60, 120), on_any_failure=True)
ONCE = RetryPolicy(delays=(), on_any_failure=False)


def sign(secret: str, callback_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{callback_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(base64.b64decode(secret), signed, hashlib.sha256)).decode()


async def announce(state: RunapiState, task: Task) -> None:
    """Waits for the task's end and sends what its buyer is to hear; returns when each message was tried once."""
    if task.callback_url is None or Kind.NO_CALLBACK in task.order.mischief:
        return
    await state.shop.wait(task.order)
    callbacks = state.world.callbacks
    if Kind.FORGED_CALLBACK in task.order.mischief:
        await callbacks.deliver(_forged(state, task, task.callback_url))
    for delivery in (deliveries := _genuine(state, task, task.callback_url)):
        callbacks.spawn(callbacks.deliver(delivery, lambda seconds: seconds * state.world.switches.callback_pace))
    for delivery in deliveries:
        await delivery.tried.wait()


def _genuine(state: RunapiState, task: Task, url: str) -> list[Delivery]:
    """Duplicates share their id, which is how a receiver knows them."""
    rule = task.order.mischief.get(Kind.DUPLICATE_CALLBACK)
    first = _delivery(url, msgspec.json.encode(envelope(state, task)), CALLBACK_SECRET)
    return [first, *(_copy(first) for _ in range(rule.copies - 1 if rule else 0))]


def _copy(delivery: Delivery) -> Delivery:
    return Delivery(delivery.url, delivery.body, delivery.headers, delivery.policy)


def _forged(state: RunapiState, task: Task, url: str) -> Delivery:
    """The opposite of what happened, signed by somebody who does not know the secret."""
    body: dict[str, object] = {"id": task.order.id, "status": "failed", "error": "Forged failure"}
    if envelope(state, task)["status"] == "failed":
        image = {"url": f"{state.world.files.base_url}/files/runapi/forged.png"}
        body = {"id": task.order.id, "status": "completed", "images": [image], "usage": {"cost": 0.0}}
    return replace(_delivery(url, msgspec.json.encode(body), WRONG_SECRET), policy=ONCE)


def _delivery(url: str, body: bytes, secret: str) -> Delivery:
    callback_id, timestamp = str(uuid.uuid4()), str(int(time.time()))
    headers = {
        "x-callback-id": callback_id,
        "x-callback-timestamp": timestamp,
        "x-callback-signature": sign(secret, callback_id, timestamp, body),
    }
    return Delivery(url, body, headers, RETRIES)
