"""What is known of a cell beyond its price: measured by others, handed in as values."""

from collections.abc import Mapping

from msgspec import Struct

from gateway.catalogue import Cell, Offer


class CellSignals(Struct, frozen=True, kw_only=True):
    """None means that nothing has been measured yet, and the offer's own expectation counts."""

    healthy: bool = True
    p50: float | None = None
    p90: float | None = None
    load: float = 0.0
    conformance: float | None = None


UNKNOWN = CellSignals()
Signals = Mapping[tuple[str, str, Cell], CellSignals]


def signals_of(signals: Signals, offer: Offer, cell: Cell) -> CellSignals:
    return signals.get((offer.seller.name, offer.model, cell), UNKNOWN) if signals else UNKNOWN
