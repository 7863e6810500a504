"""Amounts of money are integers in micro-USD. No float holds money."""

import re

MICROS_PER_USD = 1_000_000
# At most seven digits before the point: a larger amount is a typing error.
_AMOUNT = re.compile(r"(?P<sign>-?)(?P<whole>\d{1,7})(?:\.(?P<part>\d{1,6}))?", re.ASCII)


def parse_usd(text: str) -> int:
    """Parses '0.133' to 133000. ValueError says why the text is invalid."""
    if not (match := _AMOUNT.fullmatch(text)):
        raise ValueError(f'Invalid amount {text[:40]!r}. Write USD like "0.133", with at most six decimals')
    if match["sign"]:
        raise ValueError("Invalid amount. It cannot be negative")
    return int(match["whole"]) * MICROS_PER_USD + int((match["part"] or "").ljust(6, "0"))


def format_usd(amount: int) -> str:
    """Formats 133000 as '0.133', 9000 as '0.009' and 100000 as '0.10': as many decimals as needed, at least two."""
    sign, (whole, part) = "-" if amount < 0 else "", divmod(abs(amount), MICROS_PER_USD)
    decimals = f"{part:06}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"
