"""Measured signals of a cell: health, latency, load, conformance."""

from collections.abc import Mapping

from msgspec import Struct

from gateway.catalogue import Offer
from providers.faults import FaultKind
from providers.orders import Cell

# Minimum deliveries, and deliveries that differed from their orders, before conformance affects the ranking.
MIN_DELIVERIES, MIN_MISSES = 5, 3
MIN_CONFORMANCE = 0.9


class CellSignals(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Signals of a cell. None means that nothing is measured yet; the offer's own expectation is used instead.

    `p50`: the seconds of successful orders; `p90`: of these and of orders that failed late. `conformance` is the share
    of `deliveries` that were as ordered. `faithful` is false while that share is too low, and true again when a probe
    order is due. `refusal`: why the seller refuses the account, until a check of it passes. `charged_price`: what the
    seller charges per image, in micro-USD, if that is believed.
    """

    healthy: bool = True
    p50: float | None = None
    p90: float | None = None
    load: float = 0.0
    conformance: float | None = None
    faithful: bool = True
    deliveries: int = 0
    refusal: FaultKind | None = None
    charged_price: int | None = None

    @property
    def health_rank(self) -> int:
        """Ranks of the cell's group: 0 healthy, 1 delivers something else than ordered, 2 unhealthy."""
        if not self.healthy:
            return 2
        return 0 if self.faithful else 1

    @property
    def conformance_text(self) -> str:
        """Describes the conformance in plans."""
        if self.conformance is None:
            return "often delivers other images than ordered"
        return f"delivered as ordered {round(self.conformance * self.deliveries)} of {self.deliveries}"


def is_below_conformance(deliveries: int, conformance: float) -> bool:
    """Returns whether enough deliveries differed from their orders to rank the cell lower."""
    missed = round(deliveries * (1 - conformance))
    return deliveries >= MIN_DELIVERIES and missed >= MIN_MISSES and conformance < MIN_CONFORMANCE


UNKNOWN_SIGNALS = CellSignals()
Signals = Mapping[tuple[str, str, Cell], CellSignals]


def get_signals(signals: Signals, offer: Offer, cell: Cell) -> CellSignals:
    return signals.get((offer.seller.name, offer.model, cell), UNKNOWN_SIGNALS)
