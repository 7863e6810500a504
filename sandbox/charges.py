"""The vendors' charges, to compare with the gateway's ledger. Amounts are integer micro-USD."""

from dataclasses import dataclass, field
from decimal import Decimal

MICROS_PER_USD = 1_000_000
MAX_CHARGES = 1_000_000


def parse_usd(usd: str) -> int:
    """Converts '0.133' to 133000."""
    return int(Decimal(usd) * MICROS_PER_USD)


def format_usd(micros: int) -> str:
    """Converts 133000 to '0.133'."""
    text = f"{Decimal(micros) / MICROS_PER_USD:.6f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


@dataclass(frozen=True, slots=True)
class Charge:
    vendor: str
    id: str
    idempotency_key: str | None
    client_ref: str | None
    caption: str
    images: int
    micros: int
    charged_at: float

    def to_json(self) -> dict[str, object]:
        """Serializes the charge: `usd` for people, `usd_micros` for exact sums."""
        return {
            "vendor": self.vendor,
            "id": self.id,
            "idempotency_key": self.idempotency_key,
            "client_ref": self.client_ref,
            "caption": self.caption,
            "images": self.images,
            "usd": self.micros / MICROS_PER_USD,
            "usd_micros": self.micros,
            "at": self.charged_at,
        }


@dataclass(slots=True)
class Invoice:
    """Every charge of every vendor, in order of settlement. The oldest are dropped beyond a million, and counted."""

    charges: list[Charge] = field(default_factory=list)
    dropped_count: int = 0

    def add(self, charge: Charge) -> None:
        self.charges.append(charge)
        if len(self.charges) > MAX_CHARGES:
            # Drops many at a time, because each deletion moves the whole list.
            excess = len(self.charges) - MAX_CHARGES * 9 // 10
            del self.charges[:excess]
            self.dropped_count += excess


@dataclass(slots=True)
class VendorBalance:
    """Prepaid credit at one vendor; `reserved` belongs to orders in flight."""

    remaining: int
    reserved: int = 0
    spent: int = 0

    def can_cover(self, amount: int) -> bool:
        return self.remaining - self.reserved >= amount

    def reserve(self, amount: int) -> None:
        self.reserved += amount

    def settle(self, reserved: int, charged: int) -> None:
        self.reserved -= reserved
        self.remaining -= charged
        self.spent += charged
