"""What every vendor does alike: take an order, work on it for a while, charge for it when it succeeds."""

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

from sandbox.charges import Balance, Charge, Invoice
from sandbox.mischief import Kind, Rule, Vendor
from sandbox.pictures import Picture

KEPT_ORDERS = 20_000


class OutOfCreditError(Exception):
    """The balance does not cover the order."""


class ClientLeftError(Exception):
    """Nobody is waiting for this order's answer any more."""


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Phase(StrEnum):
    QUEUED = "queued"
    DISPATCHING = "dispatching"
    RUNNING = "running"
    OVER = "over"


class Latency(Struct, frozen=True):
    """Seconds an order takes: normal around `median`, never under a third of it."""

    median: float
    spread: float


FAST = {"*": Latency(0.15, 0.05)}
# Runflow's page says 10 to 30 s by quality; RunAPI publishes nothing; users measured 10, 48 and 126 s at OpenAI.
REALISTIC = {
    Vendor.RUNFLOW: {"low": Latency(11, 2), "medium": Latency(18, 4), "high": Latency(28, 6)},
    Vendor.RUNAPI: {"*": Latency(35, 10)},
    Vendor.OPENAI: {"low": Latency(10, 2), "medium": Latency(48, 8), "high": Latency(126, 20)},
}


@dataclass(slots=True, eq=False)
class Order:
    """One paid piece of work. `price` is what success costs; a failed order costs nothing.

    `base` is the part of the price that does not shrink when some of the pictures are not made.
    """

    id: str
    price: int
    pictures: tuple[Picture, ...]
    quality: str = "*"
    base: int = 0
    idempotency_key: str | None = None
    client_ref: str | None = None
    outcome: Outcome = Outcome.SUCCEEDED
    reason: tuple[str, str] = ("", "")
    mischief: dict[Kind, Rule] = field(default_factory=dict)
    created: float = 0.0
    starts: float = 0.0
    ends: float = math.inf
    settled: bool = False
    charged: int = 0

    def phase(self, now: float) -> Phase:
        if now >= self.ends:
            return Phase.OVER
        if now < self.starts:
            return Phase.QUEUED
        return Phase.DISPATCHING if now < self.starts + 0.02 else Phase.RUNNING

    def succeeded(self, now: float) -> bool:
        return self.phase(now) is Phase.OVER and self.outcome in (Outcome.SUCCEEDED, Outcome.PARTIAL)


class Shop:
    """One vendor's till and workshop. Time passes by itself: whoever looks first settles what has ended."""

    def __init__(self, vendor: Vendor, invoice: Invoice, balance: int, slots: int) -> None:
        self.vendor = vendor
        self.invoice = invoice
        self.balance = Balance(balance)
        self.latency: dict[str, Latency] = dict(FAST)
        self._dice = random.Random(str(vendor))
        self._slots = [0.0] * slots
        self._open: list[tuple[float, int, Order]] = []
        self._sequence = itertools.count()
        self.orders: OrderedDict[str, Order] = OrderedDict()

    def resize(self, slots: int) -> None:
        """How many orders are worked on at once; the rest wait in the queue and are never refused."""
        busy = sorted(self._slots, reverse=True)[:slots]
        self._slots = busy + [0.0] * (slots - len(busy))
        heapq.heapify(self._slots)

    def place(self, order: Order) -> Order:
        """Takes an order, or raises OutOfCreditError; applies the mischief that changes what becomes of it."""
        self.settle()
        _spoil(order)
        if not self.balance.covers(order.price):
            raise OutOfCreditError
        self.balance.reserve(order.price)
        order.created = time.time()
        self._schedule(order)
        self.orders[order.id] = order
        while len(self.orders) > KEPT_ORDERS:
            self.orders.popitem(last=False)
        return order

    def _schedule(self, order: Order) -> None:
        order.starts = max(order.created, self._slots[0])
        if Kind.STUCK in order.mischief:
            return
        early = Kind.EARLY_CALLBACK in order.mischief
        order.ends = order.created if early else order.starts + self._duration(order.quality)
        heapq.heapreplace(self._slots, order.ends)
        heapq.heappush(self._open, (order.ends, next(self._sequence), order))

    def _duration(self, quality: str) -> float:
        latency = self.latency.get(quality) or self.latency.get("*") or FAST["*"]
        return max(latency.median / 3, self._dice.gauss(latency.median, latency.spread))

    def settle(self) -> None:
        """Charges every order that has ended by now."""
        now = time.time()
        while self._open and self._open[0][0] <= now:
            self._close(heapq.heappop(self._open)[2])

    def _close(self, order: Order) -> None:
        if order.settled:
            return
        order.settled = True
        # Cancelling stops nothing at the vendor: work that had begun is billed, as Runflow's page warns.
        begun = order.outcome is Outcome.CANCELLED and order.ends > order.starts
        order.charged = order.price if begun or order.outcome in (Outcome.SUCCEEDED, Outcome.PARTIAL) else 0
        self.balance.settle(order.price, order.charged)
        if order.charged:
            self.invoice.add(
                Charge(
                    vendor=self.vendor,
                    id=order.id,
                    idempotency_key=order.idempotency_key,
                    client_ref=order.client_ref,
                    images=len(order.pictures),
                    micros=order.charged,
                    at=order.ends,
                )
            )

    def cancel(self, order: Order) -> None:
        """Ends an order for its owner; an order that is over stays as it is."""
        self.settle()
        if not order.settled:
            order.outcome, order.ends = Outcome.CANCELLED, time.time()
            self._close(order)

    async def wait(self, order: Order, receive: Receive | None = None) -> None:
        """Until the order has ended, for vendors that answer at once with pictures.

        With the request's `receive` an order that never ends is waited for only as long as the client does;
        then ClientLeftError. Any other order is waited for: that the client left does not stop it.
        """
        if math.isinf(order.ends):
            await (client_left(receive) if receive else asyncio.Event().wait())
            raise ClientLeftError
        while (left := order.ends - time.time()) > 0:  # noqa: ASYNC110 - a sleep may end a hair too early by this clock
            await asyncio.sleep(left)
        self.settle()


async def client_left(receive: Receive) -> None:
    """Until the connection is gone; what the client still sends is dropped."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _spoil(order: Order) -> None:
    """What mischief makes of an order: settled here once, so that vendors only have to show it."""
    rules = order.mischief
    if rule := rules.get(Kind.FAIL):
        order.outcome = Outcome.FAILED
        order.reason = (
            rule.code or "PROVIDER_ERROR",
            rule.message or "The provider could not complete the request.",
        )
    if Kind.REFUSE_CONTENT in rules:
        order.outcome = Outcome.FAILED
        order.reason = ("moderation_blocked", "Your request was rejected by the safety system.")
    if rule := rules.get(Kind.PARTIAL):
        _drop_pictures(order, rule.missing)
    if Kind.DOWNGRADE in rules:
        order.pictures = tuple(_halved(picture) for picture in order.pictures)


def _drop_pictures(order: Order, missing: int) -> None:
    asked = len(order.pictures)
    made = max(0, asked - missing)
    if made == 0:
        order.outcome, order.reason = (
            Outcome.FAILED,
            ("PROVIDER_ERROR", "None of the pictures could be made."),
        )
    else:
        order.outcome = Outcome.PARTIAL
        order.pictures = order.pictures[:made]
        order.price = order.base + (order.price - order.base) * made // asked


def _halved(picture: Picture) -> Picture:
    return dataclasses.replace(picture, width=max(16, picture.width // 2), height=max(16, picture.height // 2))
