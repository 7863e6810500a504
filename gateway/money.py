"""Money is integer micro-USD, end to end. No float ever holds any of it."""

import re

MICROS_PER_USD = 1_000_000
# Seven digits before the point: nobody's budget is larger, and a slip of the finger is.
_AMOUNT = re.compile(r"(?P<sign>-?)(?P<whole>\d{1,7})(?:\.(?P<part>\d{1,6}))?", re.ASCII)


def parse_usd(text: str) -> int:
    """'0.133' → 133000. ValueError says, in words for an operator, why a text is no amount."""
    if not (match := _AMOUNT.fullmatch(text)):
        raise ValueError(f'{text[:40]!r} is no amount in USD: write it like "0.133", with six decimals at most')
    if match["sign"]:
        raise ValueError("an amount cannot be negative")
    return int(match["whole"]) * MICROS_PER_USD + int((match["part"] or "").ljust(6, "0"))


def format_usd(amount: int) -> str:
    """133000 → '0.133', 9000 → '0.009', 100000 → '0.10': as many decimals as it takes, two at least."""
    sign, (whole, part) = "-" if amount < 0 else "", divmod(abs(amount), MICROS_PER_USD)
    decimals = f"{part:06}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"
