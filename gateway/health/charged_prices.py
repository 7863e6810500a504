"""The prices that a seller has charged for the last images of a cell."""

from collections import deque
from collections.abc import Iterable
from statistics import median_low
from typing import Annotated

from msgspec import Meta, Struct

from gateway.health.circuit_breaker import Moment

# The price is the median of the last charges of one day, so a single odd one does not count.
MAX_CHARGES, MIN_CHARGES, CHARGE_WINDOW_SECONDS = 5, 3, 86_400.0


class CellCharge(Struct, frozen=True, array_like=True, order=True):
    """One charge. `price`: micro-USD per image, without what an order costs besides its images."""

    charged_at: Moment
    price: Annotated[int, Meta(ge=0, le=10**12)]


class ChargedPrices:
    """The last charges of a cell by this replica."""

    def __init__(self) -> None:
        self._charges: deque[CellCharge] = deque(maxlen=MAX_CHARGES)

    def add(self, price: int, now: float) -> None:
        self._charges.append(CellCharge(max(0.0, now), max(0, price)))

    def list_recent(self, now: float) -> tuple[CellCharge, ...]:
        return tuple([charge for charge in self._charges if now - charge.charged_at <= CHARGE_WINDOW_SECONDS])


def estimate_price(charges: Iterable[CellCharge], now: float) -> int | None:
    """Returns what an image costs by the last charges of all replicas; None if there are too few of one day."""
    recent = sorted(charge for charge in charges if now - charge.charged_at <= CHARGE_WINDOW_SECONDS)[-MAX_CHARGES:]
    return median_low([charge.price for charge in recent]) if len(recent) >= MIN_CHARGES else None
