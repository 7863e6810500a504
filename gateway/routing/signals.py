"""What is known of a cell beyond its price: measured by others, handed in as values."""

from collections.abc import Mapping

from msgspec import Struct

from gateway.catalogue import Offer
from providers.orders import Cell

# Fewer deliveries than this say nothing, and fewer than MISSES that were not as ordered may be an accident.
MIN_DELIVERIES, MIN_MISSES = 5, 3
MIN_CONFORMANCE = 0.9


class CellSignals(Struct, frozen=True, kw_only=True):
    """None means that nothing has been measured yet, and the offer's own expectation counts.

    `conformance` is the share of `deliveries` that were as ordered. `faithful` is false while too few are; it is true
    again when a probe order is due.
    """

    healthy: bool = True
    p50: float | None = None
    p90: float | None = None
    load: float = 0.0
    conformance: float | None = None
    faithful: bool = True
    deliveries: int = 0

    @property
    def standing(self) -> int:
        """0 is well; 1 delivers, but not what is ordered; 2 is down. Cells are ranked among those of their standing."""
        if not self.healthy:
            return 2
        return 0 if self.faithful else 1

    @property
    def conformance_text(self) -> str:
        """In words, where anything is known of it."""
        if self.conformance is None:
            return "often delivers something other than ordered"
        return f"delivered as ordered {round(self.conformance * self.deliveries)} of {self.deliveries}"


def is_below_conformance(deliveries: int, conformance: float) -> bool:
    """Whether so many deliveries, of which this share was as ordered, are reason to order elsewhere."""
    missed = round(deliveries * (1 - conformance))
    return deliveries >= MIN_DELIVERIES and missed >= MIN_MISSES and conformance < MIN_CONFORMANCE


UNKNOWN_SIGNALS = CellSignals()
Signals = Mapping[tuple[str, str, Cell], CellSignals]


def get_signals(signals: Signals, offer: Offer, cell: Cell) -> CellSignals:
    return signals.get((offer.seller.name, offer.model, cell), UNKNOWN_SIGNALS) if signals else UNKNOWN_SIGNALS
