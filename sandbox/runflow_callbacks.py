"""Runflow's callbacks: one when a run is over, signed if there is a secret, and the list of what was sent."""

import asyncio
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sandbox.callbacks import Delivery, RetryPolicy
from sandbox.mischief import Kind
from sandbox.runflow_deliveries import SentCallback
from sandbox.runflow_runs import Run, output
from sandbox.runflow_wire import callback_stamp, uuid7
from sandbox.shop import Outcome
from sandbox.world import World

EVENTS = {
    Outcome.SUCCEEDED: "run.completed",
    Outcome.PARTIAL: "run.partial_succeeded",
    Outcome.FAILED: "run.failed",
    Outcome.CANCELLED: "run.cancelled",
}
ON_5XX = RetryPolicy(delays=(1.0, 2.0), on_any_failure=False)
ON_ANY_FAILURE = RetryPolicy(delays=(1.0, 2.0, 4.0), on_any_failure=True)
LOOKS_PER_SECOND = 20


@dataclass(slots=True)
class Secret:
    """Shown whole once, when it is made."""

    plain: str
    label: str | None
    id: str = field(default_factory=uuid7)
    created: float = field(default_factory=time.time)

    @classmethod
    def new(cls, label: str | None) -> "Secret":
        return cls("whsec_" + secrets.token_urlsafe(24), label)


class Caller:
    """Calls back about runs, with the newest secret."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.secrets: list[Secret] = []

    async def call(self, run: Run) -> None:
        """Waits for the run to be over, then tells whoever wants to know; mischief may tell more, or nothing."""
        while not run.order.settled:
            await asyncio.sleep(1 / LOOKS_PER_SECOND)
            self.world.settle()
        rules = run.order.mischief
        if Kind.NO_CALLBACK in rules:
            return
        if Kind.FORGED_CALLBACK in rules:
            await self._deliver(run, await self._forged(run))
        copies = rules[Kind.DUPLICATE_CALLBACK].copies if Kind.DUPLICATE_CALLBACK in rules else 1
        body = await self._body(run)
        for _ in range(copies):
            await self._deliver(run, self._sent(run, body, automatic=True))

    async def redeliver(self, run: Run) -> SentCallback:
        """A fresh payload from the run as it is now."""
        sent = self._sent(run, await self._body(run), automatic=False)
        self.world.callbacks.spawn(self._deliver(run, sent))
        return sent

    async def _deliver(self, run: Run, sent: SentCallback) -> None:
        run.deliveries.append(sent)
        await self.world.callbacks.deliver(sent.delivery, lambda delay: delay * self.world.switches.callback_pace)

    async def _body(self, run: Run) -> bytes:
        order, switches = run.order, self.world.switches.runflow
        shown = await output(run)
        if order.outcome is Outcome.FAILED and switches.callback_failure_output == "error":
            shown = {"code": order.reason[0], "message": order.reason[1]}
        return self._payload(run, EVENTS[order.outcome], run.status(), shown)

    async def _forged(self, run: Run) -> SentCallback:
        """The opposite news, signed by somebody who does not know the secret."""
        lie = ("run.failed", "failed") if run.status() == "succeeded" else ("run.completed", "succeeded")
        sent = self._sent(run, self._payload(run, *lie, None), automatic=True)
        sent.delivery.headers = self._headers(sent.delivery.body, "whsec_" + secrets.token_hex(16))
        return sent

    def _payload(self, run: Run, event: str, status: str, shown: Any) -> bytes:
        """In the documented order of keys."""
        return msgspec.json.encode(
            {
                "event": event,
                "run_id": run.order.id,
                "status": status,
                "output": shown,
                "duration_ms": run.duration_ms(),
                "created_at": callback_stamp(run.order.created),
                "completed_at": callback_stamp(run.order.ends),
                "metadata": run.request.get("metadata"),
            }
        )

    def _sent(self, run: Run, body: bytes, *, automatic: bool) -> SentCallback:
        secret = self.secrets[-1] if self.secrets else None
        any_failure = self.world.switches.runflow.callback_retries == "any"
        delivery = Delivery(
            url=run.request["callback_url"],
            body=body,
            headers=self._headers(body, secret.plain if secret else None),
            policy=ON_ANY_FAILURE if any_failure else ON_5XX,
        )
        return SentCallback(run.order.id, delivery, secret.id if secret else None, automatic)

    def _headers(self, body: bytes, secret: str | None) -> dict[str, str]:
        headers = {"Runflow-Request-Id": uuid7()}
        if secret:
            headers["Runflow-Signature"] = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return headers
