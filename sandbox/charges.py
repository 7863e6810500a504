"""What the vendors charged: the invoice that the gateway's own books are compared with. Integer micro-USD."""

from dataclasses import dataclass, field
from decimal import Decimal

MICROS = 1_000_000
KEPT_CHARGES = 1_000_000


def micros(usd: str) -> int:
    """'0.133' → 133000."""
    return int(Decimal(usd) * MICROS)


def dollars(amount: int) -> str:
    """133000 → '0.133'."""
    text = f"{Decimal(amount) / MICROS:.6f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


@dataclass(frozen=True, slots=True)
class Charge:
    vendor: str
    id: str
    idempotency_key: str | None
    client_ref: str | None
    images: int
    micros: int
    at: float

    def line(self) -> dict[str, object]:
        """`usd` for people, `usd_micros` for sums that must not drift."""
        return {
            "vendor": self.vendor,
            "id": self.id,
            "idempotency_key": self.idempotency_key,
            "client_ref": self.client_ref,
            "images": self.images,
            "usd": self.micros / MICROS,
            "usd_micros": self.micros,
            "at": self.at,
        }


@dataclass(slots=True)
class Invoice:
    """Every charge of every vendor, in the order it was settled. The oldest of a million go, and are counted."""

    lines: list[Charge] = field(default_factory=list)
    forgotten: int = 0

    def add(self, charge: Charge) -> None:
        self.lines.append(charge)
        if len(self.lines) > KEPT_CHARGES:
            # Many at a time, because each time the whole list moves up.
            excess = len(self.lines) - KEPT_CHARGES * 9 // 10
            del self.lines[:excess]
            self.forgotten += excess


@dataclass(slots=True)
class Balance:
    """Prepaid credit at one vendor; `reserved` is promised to orders in flight."""

    left: int
    reserved: int = 0
    spent: int = 0

    def covers(self, amount: int) -> bool:
        return self.left - self.reserved >= amount

    def reserve(self, amount: int) -> None:
        self.reserved += amount

    def settle(self, reserved: int, charged: int) -> None:
        self.reserved -= reserved
        self.left -= charged
        self.spent += charged
