"""RunAPI's callbacks: the finished task, signed, retried until a 2xx response."""

import base64
import hashlib
import hmac
import time
import uuid
from dataclasses import replace

import msgspec

from sandbox.callback_sender import CallbackDelivery, RetryPolicy
from sandbox.fault_injection import InjectedFault
from sandbox.runapi.tasks import RunapiState, RunapiTask, serialize_task

# The account's callback secret, with which receivers verify. It is public, as all keys of the sandbox.
CALLBACK_SECRET = "cnVuYXBpLXNhbmRib3gtY2FsbGJhY2stc2VjcmV0"  # noqa: S105
WRONG_SECRET = base64.b64encode(b"the secret of another account").decode()

# The vendor's schedule is unknown. All attempts are within the 300 s for which a timestamp is valid.
RETRY_POLICY = RetryPolicy(delays_seconds=(5, 20, 60, 120), retries_any_failure=True)
NO_RETRIES = RetryPolicy(delays_seconds=(), retries_any_failure=False)


def compute_signature(secret: str, callback_id: str, timestamp: str, body: bytes) -> str:
    message = f"{callback_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(base64.b64decode(secret), message, hashlib.sha256)).decode()


async def send_callbacks(state: RunapiState, task: RunapiTask) -> None:
    """Waits for the task to finish and sends its callbacks; returns after the first attempt of each."""
    if task.callback_url is None or InjectedFault.NO_CALLBACK in task.order.fault_rules:
        return
    await state.simulator.wait_for_order(task.order)
    sender = state.sandbox.callback_sender
    if InjectedFault.FORGED_CALLBACK in task.order.fault_rules:
        await sender.deliver(_build_forged_delivery(state, task, task.callback_url))
    for delivery in (deliveries := _build_deliveries(state, task, task.callback_url)):
        sender.start_task(
            sender.deliver(delivery, lambda seconds: seconds * state.sandbox.switches.callback_delay_factor)
        )
    for delivery in deliveries:
        await delivery.first_attempt_done.wait()


def _build_deliveries(state: RunapiState, task: RunapiTask, url: str) -> list[CallbackDelivery]:
    """Builds the callback and its duplicates, which share its id, so that receivers can recognize them."""
    rule = task.order.fault_rules.get(InjectedFault.DUPLICATE_CALLBACK)
    original = _build_delivery(url, msgspec.json.encode(serialize_task(state, task)), CALLBACK_SECRET)
    return [original, *(_copy_delivery(original) for _ in range(rule.copies - 1 if rule else 0))]


def _copy_delivery(delivery: CallbackDelivery) -> CallbackDelivery:
    return CallbackDelivery(delivery.url, delivery.body, delivery.headers, delivery.retry_policy)


def _build_forged_delivery(state: RunapiState, task: RunapiTask, url: str) -> CallbackDelivery:
    """Builds a callback with the opposite status, signed with a wrong secret."""
    body: dict[str, object] = {"id": task.order.id, "status": "failed", "error": "Forged failure"}
    if serialize_task(state, task)["status"] == "failed":
        image = {"url": f"{state.sandbox.file_store.base_url}/files/runapi/forged.png"}
        body = {"id": task.order.id, "status": "completed", "images": [image], "usage": {"cost": 0.0}}
    return replace(_build_delivery(url, msgspec.json.encode(body), WRONG_SECRET), retry_policy=NO_RETRIES)


def _build_delivery(url: str, body: bytes, secret: str) -> CallbackDelivery:
    callback_id, timestamp = str(uuid.uuid4()), str(int(time.time()))
    headers = {
        "x-callback-id": callback_id,
        "x-callback-timestamp": timestamp,
        "x-callback-signature": compute_signature(secret, callback_id, timestamp, body),
    }
    return CallbackDelivery(url, body, headers, RETRY_POLICY)
