"""Amounts are parsed and formatted exactly; invalid amounts are rejected with an explanation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.money import format_usd, parse_usd


@given(st.integers(0, 9_999_999_999_999))
def test_every_amount_round_trips(amount: int) -> None:
    assert parse_usd(format_usd(amount)) == amount


@pytest.mark.parametrize(
    ("text", "amount"),
    [("0", 0), ("0.009", 9_000), ("0.133", 133_000), ("0.10", 100_000), ("12", 12_000_000), ("0.000001", 1)],
)
def test_amounts_are_parsed_as_micro_dollars(text: str, amount: int) -> None:
    assert parse_usd(text) == amount


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0.00"), (9_000, "0.009"), (27_000, "0.027"), (100_000, "0.10"), (1, "0.000001"), (-5_000, "-0.005")],
)
def test_amounts_are_formatted_with_needed_decimals(amount: int, text: str) -> None:
    assert format_usd(amount) == text


@pytest.mark.parametrize(
    "text", ["", "abc", "1e3", "0,06", "$1", "1.", ".5", "0.0000001", "12345678", "٣", " 1", "1\n", "nan"]
)
def test_invalid_amount_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r'Write USD like "0\.133"'):
        parse_usd(text)


def test_negative_amount_is_rejected() -> None:
    with pytest.raises(ValueError, match="cannot be negative"):
        parse_usd("-0.01")
