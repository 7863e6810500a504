"""All state of the sandbox. Nothing survives a restart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from sandbox.callback_sender import CallbackSender
from sandbox.charges import MICROS_PER_USD, Invoice
from sandbox.fault_injection import FaultInjector
from sandbox.file_store import FileStore
from sandbox.idempotency import ReplayCache
from sandbox.order_simulator import FAST_LATENCY, REALISTIC_LATENCY, OrderSimulator
from sandbox.request_log import RequestLog
from sandbox.source_fetcher import SourceFetcher
from sandbox.switches import Switches, default_switches
from sandbox.vendors import Vendor

# Enough for weeks of load tests: credit should only run out on purpose.
INITIAL_BALANCE_MICROS = 1_000_000 * MICROS_PER_USD
ReplayT = TypeVar("ReplayT")


class VendorState(Protocol):
    """The state of one vendor, as far as the rest of the sandbox uses it."""

    def build_error_body(self, status: int, code: str | None = None, message: str | None = None) -> object:
        """Builds the vendor's own error body for a status."""
        ...


class AsyncVendorState(Generic[ReplayT]):
    """The base of the states of vendors with asynchronous orders. `replay_cache`: by idempotency key."""

    def __init__(self, sandbox: "SandboxState", vendor: Vendor) -> None:
        self.sandbox = sandbox
        self.simulator = sandbox.simulators[vendor]
        self.replay_cache: ReplayCache[ReplayT] = ReplayCache()


@dataclass(slots=True)
class SandboxState:
    """The shared state of all vendors.

    `header_builders` make the headers of all responses of a vendor from the headers of the request.
    """

    is_realistic: bool = False
    base_url: str = ""
    switches: Switches = field(default_factory=default_switches)
    fault_injector: FaultInjector = field(default_factory=FaultInjector)
    invoice: Invoice = field(default_factory=Invoice)
    request_log: RequestLog = field(default_factory=RequestLog)
    file_store: FileStore = field(default_factory=FileStore)
    callback_sender: CallbackSender = field(default_factory=CallbackSender)
    source_fetcher: SourceFetcher = field(default_factory=SourceFetcher)
    simulators: dict[Vendor, OrderSimulator] = field(default_factory=dict)
    vendor_states: dict[Vendor, VendorState] = field(default_factory=dict)
    vendor_factories: dict[Vendor, Callable[["SandboxState"], VendorState]] = field(default_factory=dict)
    header_builders: dict[Vendor, Callable[[Mapping[str, str]], Mapping[str, str]]] = field(default_factory=dict)

    def reset(self) -> None:
        """Resets every vendor: new balances, empty invoice. Switches stay as they are."""
        # A new invoice, because orders in flight are still charged to the old one.
        self.invoice = Invoice()
        self.file_store.clear()
        self.request_log.entries.clear()
        self.fault_injector.clear()
        self.callback_sender.cancel_all()
        for simulator in self.simulators.values():
            simulator.finish_orders()
        for vendor, create_vendor_state in self.vendor_factories.items():
            simulator = OrderSimulator(
                vendor, self.invoice, INITIAL_BALANCE_MICROS, getattr(self.switches, vendor).concurrency
            )
            simulator.latency = dict(REALISTIC_LATENCY[vendor] if self.is_realistic else FAST_LATENCY)
            self.simulators[vendor] = simulator
            self.vendor_states[vendor] = create_vendor_state(self)

    def settle_all(self) -> None:
        for simulator in self.simulators.values():
            simulator.settle_finished()
