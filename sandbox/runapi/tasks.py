"""RunAPI's tasks: their state and their JSON."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from litestar.di import NamedDependency

from sandbox.charges import MICROS_PER_USD
from sandbox.fault_injection import InjectedFault
from sandbox.order_simulator import MAX_ORDERS, Phase, SimulatedOrder
from sandbox.runapi.http_helpers import build_error_body
from sandbox.runapi.order_rules import TaskAction
from sandbox.state import AsyncVendorState, SandboxState
from sandbox.switches import RunapiSwitches
from sandbox.vendors import Vendor

MICROS_PER_CENT = MICROS_PER_USD // 100
MICRO_CENTS_PER_MICRO = 100


@dataclass(slots=True, eq=False)
class RunapiTask:
    """One task. `image_url` is made once, so that a finished task never changes."""

    order: SimulatedOrder
    action: TaskAction
    first_status: str
    callback_url: str | None
    image_url: str | None = None

    def get_status(self, now: float) -> str:
        phase = self.order.get_phase(now)
        if phase is Phase.FINISHED:
            return "completed" if self.order.has_succeeded(now) else "failed"
        # A task whose first status was processing does not go back to pending.
        return self.first_status if phase in (Phase.QUEUED, Phase.DISPATCHING) else "processing"


class RunapiState(AsyncVendorState[RunapiTask]):
    """The state of the simulated RunAPI."""

    def __init__(self, sandbox: SandboxState) -> None:
        super().__init__(sandbox, Vendor.RUNAPI)
        self._tasks: OrderedDict[str, RunapiTask] = OrderedDict()

    @property
    def switches(self) -> RunapiSwitches:
        return self.sandbox.switches.runapi

    def build_error_body(self, status: int, code: str | None = None, message: str | None = None) -> object:
        return build_error_body(self.switches.error_body, status, code, message)

    def add_task(self, task: RunapiTask) -> None:
        self._tasks[task.order.id] = task
        while len(self._tasks) > MAX_ORDERS:
            self._tasks.popitem(last=False)

    def get_task(self, task_id: str) -> RunapiTask | None:
        return self._tasks.get(task_id)


# The vendor's state, injected into handlers.
InjectedState = NamedDependency[RunapiState]


def serialize_ticket(state: RunapiState, task: RunapiTask, status: str) -> dict[str, Any]:
    """Serializes the response to a create: without result and cost."""
    body: dict[str, Any] = {"id": task.order.id, "status": status}
    if state.switches.legacy_billing != "absent":
        body["billing"] = _serialize_billing(task.order, time.time())
    return body


def serialize_task(state: RunapiState, task: RunapiTask) -> dict[str, Any]:
    """Serializes a task for polls and callbacks."""
    now = time.time()
    state.simulator.settle_finished()
    order = task.order
    status = task.get_status(now)
    body = serialize_ticket(state, task, status)
    if status == "completed":
        body["images"] = _serialize_images(state, task, now)
        if state.switches.legacy_billing != "only":
            body["usage"] = {"cost": order.charged_micros / MICROS_PER_USD, "generated_images": len(body["images"])}
    elif status == "failed":
        body["error"] = order.failure[1]
    return body


def _serialize_images(state: RunapiState, task: RunapiTask, now: float) -> list[dict[str, str]]:
    if InjectedFault.EMPTY_OUTPUTS in task.order.fault_rules:
        return []
    if task.image_url is None:
        is_expired = InjectedFault.EXPIRED_URL in task.order.fault_rules
        ttl_seconds = -1.0 if is_expired else state.switches.link_seconds - (now - task.order.ends_at)
        task.image_url = state.sandbox.file_store.make_image_url(
            Vendor.RUNAPI, task.order.id, task.order.images[0].format, ttl_seconds
        )
    return [{"url": task.image_url}]


def _serialize_billing(order: SimulatedOrder, now: float) -> dict[str, Any]:
    """Serializes the block that clients before core 0.9 use; its members are null until they happen."""
    is_paid = order.has_succeeded(now)
    is_refunded = order.get_phase(now) is Phase.FINISHED and not is_paid
    settlement = {
        "charged_amount_cents": order.charged_micros // MICROS_PER_CENT,
        "amount_micro_cents": order.charged_micros * MICRO_CENTS_PER_MICRO,
    }
    return {
        "reservation": {"amount_cents": order.price_micros // MICROS_PER_CENT},
        "settlement": settlement if is_paid else None,
        "refund": {"refunded_at": format_timestamp(order.ends_at)} if is_refunded else None,
    }


def format_timestamp(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
