"""Everything the sandbox remembers, in one place. Nothing here survives a restart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sandbox.callbacks import Callbacks
from sandbox.charges import MICROS, Invoice
from sandbox.files import Files
from sandbox.mischief import Mischief, Vendor
from sandbox.request_log import RequestLog
from sandbox.shop import FAST, REALISTIC, Shop
from sandbox.sources import Sources
from sandbox.switches import Switches, defaults

# Enough for weeks of load tests: credit that runs out should be somebody's intention.
OPENING_BALANCE = 1_000_000 * MICROS


class VendorState(Protocol):
    """What a vendor's module keeps; the rest of the sandbox asks it only this."""

    def error(self, status: int, code: str | None = None, message: str | None = None) -> object:
        """The vendor's own error body for a status."""
        ...


@dataclass(slots=True)
class World:
    """`letterheads` make the headers that all answers of a vendor carry out of the request's; few vendors have any."""

    realistic: bool = False
    base_url: str = ""
    switches: Switches = field(default_factory=defaults)
    mischief: Mischief = field(default_factory=Mischief)
    invoice: Invoice = field(default_factory=Invoice)
    requests: RequestLog = field(default_factory=RequestLog)
    files: Files = field(default_factory=Files)
    callbacks: Callbacks = field(default_factory=Callbacks)
    sources: Sources = field(default_factory=Sources)
    shops: dict[Vendor, Shop] = field(default_factory=dict)
    vendors: dict[Vendor, VendorState] = field(default_factory=dict)
    openers: dict[Vendor, Callable[["World"], VendorState]] = field(default_factory=dict)
    letterheads: dict[Vendor, Callable[[Mapping[str, str]], Mapping[str, str]]] = field(default_factory=dict)

    def open(self) -> None:
        """Opens every shop afresh: new tills, empty books. Switches stay as they are."""
        # A new one, because orders still under way hold on to the old one and end on it.
        self.invoice = Invoice()
        self.files.clear()
        self.requests.entries.clear()
        self.mischief.clear()
        self.callbacks.drop()
        for vendor, opener in self.openers.items():
            shop = Shop(vendor, self.invoice, OPENING_BALANCE, getattr(self.switches, vendor).concurrency)
            shop.latency = dict(REALISTIC[vendor] if self.realistic else FAST)
            self.shops[vendor] = shop
            self.vendors[vendor] = opener(self)

    def settle(self) -> None:
        for shop in self.shops.values():
            shop.settle()
