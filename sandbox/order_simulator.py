"""Simulates orders for all vendors: accept, work for a while, charge on success."""

import asyncio
import dataclasses
import heapq
import itertools
import math
import random
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

from litestar.types import Receive
from msgspec import Struct

from sandbox.charges import Charge, Invoice, VendorBalance
from sandbox.delays import Delays
from sandbox.fault_injection import FaultRule, InjectedFault
from sandbox.image_renderer import ImageRecipe
from sandbox.vendors import Vendor

MAX_ORDERS = 20_000


class InsufficientCreditError(Exception):
    """The balance does not cover the order."""


class ClientDisconnectedError(Exception):
    """The client disconnected before its order finished."""


class SimulatedOutcome(StrEnum):
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    QUEUED = "queued"
    DISPATCHING = "dispatching"
    RUNNING = "running"
    FINISHED = "over"


class Latency(Struct, frozen=True):
    """Seconds that an order takes: normally distributed around `median`, at least a third of it."""

    median: float
    spread: float


FAST_LATENCY = {"*": Latency(0.15, 0.05)}
# Runflow's page says 10 to 30 s by quality; RunAPI publishes nothing; users measured 10, 48 and 126 s at OpenAI.
REALISTIC_LATENCY = {
    Vendor.RUNFLOW: {"low": Latency(11, 2), "medium": Latency(18, 4), "high": Latency(28, 6)},
    Vendor.RUNAPI: {"*": Latency(35, 10)},
    Vendor.OPENAI: {"low": Latency(10, 2), "medium": Latency(48, 8), "high": Latency(126, 20)},
}


@dataclass(slots=True, eq=False)
class SimulatedOrder:
    """One order. `price_micros` is charged on success; a failed order costs nothing.

    `base_price` is the part of the price that does not depend on the number of images.
    """

    id: str
    price_micros: int
    images: tuple[ImageRecipe, ...]
    quality: str = "*"
    base_price: int = 0
    idempotency_key: str | None = None
    client_ref: str | None = None
    outcome: SimulatedOutcome = SimulatedOutcome.SUCCEEDED
    failure: tuple[str, str] = ("", "")
    fault_rules: dict[InjectedFault, FaultRule] = field(default_factory=dict)
    created_at: float = 0.0
    starts_at: float = 0.0
    ends_at: float = math.inf
    is_settled: bool = False
    charged_micros: int = 0

    def get_phase(self, now: float) -> Phase:
        if now >= self.ends_at:
            return Phase.FINISHED
        if now < self.starts_at:
            return Phase.QUEUED
        return Phase.DISPATCHING if now < self.starts_at + 0.02 else Phase.RUNNING

    def has_succeeded(self, now: float) -> bool:
        return self.get_phase(now) is Phase.FINISHED and self.outcome in (
            SimulatedOutcome.SUCCEEDED,
            SimulatedOutcome.PARTIAL,
        )


class OrderSimulator:
    """Orders and balance of one vendor. Without background tasks: every access first settles finished orders."""

    def __init__(self, vendor: Vendor, invoice: Invoice, balance: int, slots: int) -> None:
        self.vendor = vendor
        self.invoice = invoice
        self.balance = VendorBalance(balance)
        self.latency: dict[str, Latency] = dict(FAST_LATENCY)
        self.delays = Delays()
        self._random = random.Random(str(vendor))
        self._slots = [0.0] * slots
        self._running_orders: list[tuple[float, int, SimulatedOrder]] = []
        self._sequence = itertools.count()
        self.orders: OrderedDict[str, SimulatedOrder] = OrderedDict()

    def set_concurrency(self, slots: int) -> None:
        """Sets how many orders run at the same time; the rest wait in the queue and are never rejected."""
        busy_until = sorted(self._slots, reverse=True)[:slots]
        self._slots = busy_until + [0.0] * (slots - len(busy_until))
        heapq.heapify(self._slots)

    def place_order(self, order: SimulatedOrder) -> SimulatedOrder:
        """Accepts an order, or raises InsufficientCreditError; applies the fault rules that change its outcome."""
        self.settle_finished()
        _apply_fault_rules(order)
        if not self.balance.can_cover(order.price_micros):
            raise InsufficientCreditError
        self.balance.reserve(order.price_micros)
        order.created_at = time.time()
        self._schedule_order(order)
        self.orders[order.id] = order
        while len(self.orders) > MAX_ORDERS:
            self.orders.popitem(last=False)
        return order

    def _schedule_order(self, order: SimulatedOrder) -> None:
        order.starts_at = max(order.created_at, self._slots[0])
        if InjectedFault.STUCK in order.fault_rules:
            return
        is_immediate = InjectedFault.EARLY_CALLBACK in order.fault_rules
        order.ends_at = order.created_at if is_immediate else order.starts_at + self._draw_duration(order.quality)
        heapq.heapreplace(self._slots, order.ends_at)
        heapq.heappush(self._running_orders, (order.ends_at, next(self._sequence), order))

    def _draw_duration(self, quality: str) -> float:
        latency = self.latency.get(quality) or self.latency.get("*") or FAST_LATENCY["*"]
        return max(latency.median / 3, self._random.gauss(latency.median, latency.spread))

    def settle_finished(self) -> None:
        """Charges every order that has finished."""
        now = time.time()
        while self._running_orders and self._running_orders[0][0] <= now:
            self._settle_order(heapq.heappop(self._running_orders)[2])

    def finish_orders(self) -> None:
        """Finishes all orders now, queued ones too, and ends all delays. Stuck orders stay in progress."""
        now = time.time()
        for _, _, order in self._running_orders:
            order.starts_at, order.ends_at = min(order.starts_at, now), min(order.ends_at, now)
        self._running_orders = [(order.ends_at, number, order) for _, number, order in self._running_orders]
        heapq.heapify(self._running_orders)
        self._slots = [min(busy_until, now) for busy_until in self._slots]
        self.settle_finished()
        self.delays.end_all()

    def _settle_order(self, order: SimulatedOrder) -> None:
        if order.is_settled:
            return
        order.is_settled = True
        # Cancelling does not stop the work: work already begun is billed, as Runflow's page warns.
        is_billed_cancellation = order.outcome is SimulatedOutcome.CANCELLED and order.ends_at > order.starts_at
        order.charged_micros = (
            order.price_micros
            if is_billed_cancellation or order.outcome in (SimulatedOutcome.SUCCEEDED, SimulatedOutcome.PARTIAL)
            else 0
        )
        self.balance.settle(order.price_micros, order.charged_micros)
        if order.charged_micros:
            self.invoice.add(
                Charge(
                    vendor=self.vendor,
                    id=order.id,
                    idempotency_key=order.idempotency_key,
                    client_ref=order.client_ref,
                    caption=order.images[0].caption,
                    images=len(order.images),
                    micros=order.charged_micros,
                    charged_at=order.ends_at,
                )
            )

    def cancel_order(self, order: SimulatedOrder) -> None:
        """Cancels an order; a finished order stays as it is."""
        self.settle_finished()
        if not order.is_settled:
            order.outcome, order.ends_at = SimulatedOutcome.CANCELLED, time.time()
            self._settle_order(order)

    async def wait_for_order(self, order: SimulatedOrder, receive: Receive | None = None) -> None:
        """Waits until the order has finished, for vendors whose response contains the images.

        If an order never finishes, waits until the client of `receive` disconnects, then raises
        ClientDisconnectedError. A disconnect does not stop any other order.
        """
        if math.isinf(order.ends_at):
            await (wait_for_disconnect(receive) if receive else asyncio.Event().wait())
            raise ClientDisconnectedError
        # A sleep may end early: slightly, by this clock, or because all orders are finished now.
        while (remaining_seconds := order.ends_at - time.time()) > 0:
            await self.delays.create_delay().sleep(remaining_seconds)
        self.settle_finished()


async def wait_for_disconnect(receive: Receive) -> None:
    """Waits until the client disconnects, and drops the rest of its request."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _apply_fault_rules(order: SimulatedOrder) -> None:
    """Applies the fault rules to an order once, so that vendors only have to serialize the outcome."""
    rules = order.fault_rules
    if rule := rules.get(InjectedFault.FAIL):
        order.outcome = SimulatedOutcome.FAILED
        order.failure = (
            rule.code or "PROVIDER_ERROR",
            rule.message or "The provider could not complete the request.",
        )
    if InjectedFault.REFUSE_CONTENT in rules:
        order.outcome = SimulatedOutcome.FAILED
        order.failure = ("moderation_blocked", "Your request was rejected by the safety system.")
    if rule := rules.get(InjectedFault.PARTIAL):
        _drop_images(order, rule.missing)
    if InjectedFault.HALF_SIZE in rules:
        order.images = tuple(_halve_size(image) for image in order.images)


def _drop_images(order: SimulatedOrder, missing: int) -> None:
    ordered_count = len(order.images)
    made_count = max(0, ordered_count - missing)
    if made_count == 0:
        order.outcome, order.failure = (
            SimulatedOutcome.FAILED,
            ("PROVIDER_ERROR", "None of the images could be generated."),
        )
    else:
        order.outcome = SimulatedOutcome.PARTIAL
        order.images = order.images[:made_count]
        order.price_micros = order.base_price + (order.price_micros - order.base_price) * made_count // ordered_count


def _halve_size(image: ImageRecipe) -> ImageRecipe:
    return dataclasses.replace(image, width=max(16, image.width // 2), height=max(16, image.height // 2))
