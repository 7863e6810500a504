"""RunAPI's tasks: what is kept of each, and what its buyer is shown."""

import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from litestar.di import NamedDependency

from sandbox.charges import MICROS
from sandbox.idempotency import Replays
from sandbox.mischief import Kind, Vendor
from sandbox.runapi_terms import Action
from sandbox.runapi_wire import error_body
from sandbox.shop import KEPT_ORDERS, Order, Phase
from sandbox.switches import RunapiSwitches
from sandbox.world import World

MICROS_PER_CENT = MICROS // 100
MICRO_CENTS_PER_MICRO = 100


@dataclass(slots=True, eq=False)
class Task:
    """`link` is made once, so that a finished task reads the same for ever."""

    order: Order
    action: Action
    first_status: str
    callback_url: str | None
    link: str | None = None

    def status(self, now: float) -> str:
        phase = self.order.phase(now)
        if phase is Phase.OVER:
            return "completed" if self.order.succeeded(now) else "failed"
        # A task that was called processing at its creation does not fall back to pending.
        return self.first_status if phase in (Phase.QUEUED, Phase.DISPATCHING) else "processing"


class RunapiState:
    """All that this vendor remembers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.shop = world.shops[Vendor.RUNAPI]
        self.replays: Replays[Task] = Replays()
        self._tasks: OrderedDict[str, Task] = OrderedDict()

    @property
    def switches(self) -> RunapiSwitches:
        return self.world.switches.runapi

    def error(self, status: int, code: str | None = None, message: str | None = None) -> object:
        return error_body(self.switches.error_body, status, code, message)

    def keep(self, task: Task) -> None:
        self._tasks[task.order.id] = task
        while len(self._tasks) > KEPT_ORDERS:
            self._tasks.popitem(last=False)

    def task(self, task_id: str) -> Task | None:
        return self._tasks.get(task_id)


# How a handler is given what its vendor remembers.
OwnState = NamedDependency[RunapiState]


def ticket(state: RunapiState, task: Task, status: str) -> dict[str, Any]:
    """What a create answers: never a result, never a cost."""
    body: dict[str, Any] = {"id": task.order.id, "status": status}
    if state.switches.legacy_billing != "absent":
        body["billing"] = _billing(task.order, time.time())
    return body


def envelope(state: RunapiState, task: Task) -> dict[str, Any]:
    """A task as polls and callbacks show it."""
    now = time.time()
    state.shop.settle()
    order = task.order
    status = task.status(now)
    body = ticket(state, task, status)
    if status == "completed":
        body["images"] = _images(state, task, now)
        if state.switches.legacy_billing != "only":
            body["usage"] = {"cost": order.charged / MICROS, "generated_images": len(body["images"])}
    elif status == "failed":
        body["error"] = order.reason[1]
    return body


def _images(state: RunapiState, task: Task, now: float) -> list[dict[str, str]]:
    if Kind.EMPTY_OUTPUTS in task.order.mischief:
        return []
    if task.link is None:
        expired = Kind.EXPIRED_URL in task.order.mischief
        seconds = -1.0 if expired else state.switches.link_seconds - (now - task.order.ends)
        task.link = state.world.files.link(Vendor.RUNAPI, task.order.id, task.order.pictures[0].format, seconds)
    return [{"url": task.link}]


def _billing(order: Order, now: float) -> dict[str, Any]:
    """The block that clients before core 0.9 knew; its members are null until they happen."""
    paid = order.succeeded(now)
    returned = order.phase(now) is Phase.OVER and not paid
    settlement = {
        "charged_amount_cents": order.charged // MICROS_PER_CENT,
        "amount_micro_cents": order.charged * MICRO_CENTS_PER_MICRO,
    }
    return {
        "reservation": {"amount_cents": order.price // MICROS_PER_CENT},
        "settlement": settlement if paid else None,
        "refund": {"refunded_at": moment(order.ends)} if returned else None,
    }


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
