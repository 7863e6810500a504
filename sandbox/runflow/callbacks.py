"""Runflow's callbacks: one when a run has finished, signed if there is a secret, and the list of deliveries."""

import asyncio
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sandbox.callback_sender import CallbackDelivery, RetryPolicy
from sandbox.fault_injection import InjectedFault
from sandbox.order_simulator import SimulatedOutcome
from sandbox.runflow.delivery_records import DeliveryRecord
from sandbox.runflow.http_helpers import format_callback_timestamp, generate_uuid7
from sandbox.runflow.runs import RunflowRun, build_output
from sandbox.state import SandboxState

EVENTS_BY_OUTCOME = {
    SimulatedOutcome.SUCCEEDED: "run.completed",
    SimulatedOutcome.PARTIAL: "run.partial_succeeded",
    SimulatedOutcome.FAILED: "run.failed",
    SimulatedOutcome.CANCELLED: "run.cancelled",
}
RETRY_ON_5XX = RetryPolicy(delays_seconds=(1.0, 2.0), retries_any_failure=False)
RETRY_ON_ANY_FAILURE = RetryPolicy(delays_seconds=(1.0, 2.0, 4.0), retries_any_failure=True)
CHECKS_PER_SECOND = 20


@dataclass(slots=True)
class CallbackSecret:
    """A secret that signs callbacks; shown in full only when it is created."""

    value: str
    label: str | None
    id: str = field(default_factory=generate_uuid7)
    created_at: float = field(default_factory=time.time)

    @classmethod
    def create(cls, label: str | None) -> "CallbackSecret":
        return cls("whsec_" + secrets.token_urlsafe(24), label)


class RunCallbacks:
    """Sends the callbacks of runs, signed with the newest secret."""

    def __init__(self, sandbox: SandboxState) -> None:
        self.sandbox = sandbox
        self.secrets: list[CallbackSecret] = []

    async def send_callbacks(self, run: RunflowRun) -> None:
        """Waits until the run has finished, then sends its callbacks; fault rules may add or suppress some."""
        while not run.order.is_settled:
            await asyncio.sleep(1 / CHECKS_PER_SECOND)
            self.sandbox.settle_all()
        rules = run.order.fault_rules
        if InjectedFault.NO_CALLBACK in rules:
            return
        if InjectedFault.FORGED_CALLBACK in rules:
            await self._send_delivery(run, await self._forge_delivery(run))
        copies = rules[InjectedFault.DUPLICATE_CALLBACK].copies if InjectedFault.DUPLICATE_CALLBACK in rules else 1
        body = await self._build_body(run)
        for _ in range(copies):
            await self._send_delivery(run, self._make_delivery(run, body, is_automatic=True))

    async def redeliver(self, run: RunflowRun) -> DeliveryRecord:
        """Sends a new callback with the current state of the run."""
        record = self._make_delivery(run, await self._build_body(run), is_automatic=False)
        self.sandbox.callback_sender.start_task(self._send_delivery(run, record))
        return record

    async def _send_delivery(self, run: RunflowRun, record: DeliveryRecord) -> None:
        run.deliveries.append(record)
        await self.sandbox.callback_sender.deliver(
            record.delivery, lambda delay: delay * self.sandbox.switches.callback_delay_factor
        )

    async def _build_body(self, run: RunflowRun) -> bytes:
        order, switches = run.order, self.sandbox.switches.runflow
        output = await build_output(run)
        if order.outcome is SimulatedOutcome.FAILED and switches.callback_failure_output == "error":
            output = {"code": order.failure[0], "message": order.failure[1]}
        return self._encode_payload(run, EVENTS_BY_OUTCOME[order.outcome], run.get_status(), output)

    async def _forge_delivery(self, run: RunflowRun) -> DeliveryRecord:
        """Builds a callback with the opposite status, signed with a wrong secret."""
        forged_status = ("run.failed", "failed") if run.get_status() == "succeeded" else ("run.completed", "succeeded")
        record = self._make_delivery(run, self._encode_payload(run, *forged_status, None), is_automatic=True)
        record.delivery.headers = self._build_headers(record.delivery.body, "whsec_" + secrets.token_hex(16))
        return record

    def _encode_payload(self, run: RunflowRun, event: str, status: str, output: Any) -> bytes:
        """Encodes the payload, with its keys in the documented order."""
        return msgspec.json.encode(
            {
                "event": event,
                "run_id": run.order.id,
                "status": status,
                "output": output,
                "duration_ms": run.get_duration_ms(),
                "created_at": format_callback_timestamp(run.order.created_at),
                "completed_at": format_callback_timestamp(run.order.ends_at),
                "metadata": run.request.get("metadata"),
            }
        )

    def _make_delivery(self, run: RunflowRun, body: bytes, *, is_automatic: bool) -> DeliveryRecord:
        secret = self.secrets[-1] if self.secrets else None
        retries_any_failure = self.sandbox.switches.runflow.callback_retries == "any"
        delivery = CallbackDelivery(
            url=run.request["callback_url"],
            body=body,
            headers=self._build_headers(body, secret.value if secret else None),
            retry_policy=RETRY_ON_ANY_FAILURE if retries_any_failure else RETRY_ON_5XX,
        )
        return DeliveryRecord(run.order.id, delivery, secret.id if secret else None, is_automatic)

    def _build_headers(self, body: bytes, secret: str | None) -> dict[str, str]:
        headers = {"Runflow-Request-Id": generate_uuid7()}
        if secret:
            headers["Runflow-Signature"] = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return headers
