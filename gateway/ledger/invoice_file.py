"""Reads a seller's invoice from CSV: each line is a charge for one order. Pure."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from msgspec import Struct

from gateway.money import format_usd
from gateway.suggestions import did_you_mean

# Names of columns, the most precise first, in small letters and without anything but letters and digits.
_COLUMNS = {
    "order": ("orderid", "ticket", "taskid", "runid", "requestid", "id", "order"),
    "reference": ("clientref", "reference", "orderreference", "idempotencykey", "clientrequestid"),
    "micros": ("usdmicros", "amountmicros", "micros"),
    "cents": ("amountcents", "chargedamountcents", "cents"),
    "amount": ("amountusd", "usd", "amount", "cost", "charge", "total", "price"),
    "images": ("images", "imagecount", "generatedimages", "numimages", "quantity"),
    "time": ("chargedat", "completedat", "createdat", "time", "timestamp", "date", "at"),
    "currency": ("currency", "currencycode"),
}
_TOTAL_NAMES = {"total", "totals", "grandtotal", "invoicetotal", "totalusd", "totaldue", "amountdue", "sum"}
FIELDS = ("order", "reference", "amount", "images", "time")
_UNITS_PER_USD = {"micros": 1_000_000, "cents": 100, "amount": 1}
MICROS_PER_USD, MAX_MICROS = 1_000_000, 10**13


class InvalidInvoice(ValueError):
    """The invoice cannot be read. The text says where and why."""


class SellerCharge(Struct, frozen=True, kw_only=True):
    """The amount that a seller charged for one order, in micro-USD.

    `reference`: the gateway's reference of the order, if the seller shows it. `charged_at`: None if the seller does not
    say. `last_charged_at`: of the last charge of several.
    """

    order_id: str
    amount: int
    reference: str = ""
    images: int = 0
    charged_at: float | None = None
    last_charged_at: float | None = None


def read_invoices(
    texts: Iterable[tuple[str, str]], columns: Mapping[str, str] | None = None
) -> tuple[SellerCharge, ...]:
    """Reads invoices, given with their names, as one. `columns`: the names of columns by field, for those that are not
    recognised. Charges of one order are added up, refunds included.

    Raises InvalidInvoice, also if two invoices have the same charge.
    """
    names_by_text: dict[str, str] = {}
    names_by_charge: dict[SellerCharge, str] = {}
    charges: list[SellerCharge] = []
    for name, text in texts:
        if (other := names_by_text.get(text)) is not None:
            raise InvalidInvoice(f"{other} and {name} have the same content: name each invoice once.")
        names_by_text[text] = name
        added = _read_lines(text, columns or {})
        for charge in added:
            if charge.charged_at is not None and (other := names_by_charge.get(charge)) is not None:
                raise InvalidInvoice(
                    f"{other} and {name} overlap: both have the charge of {charge.order_id or charge.reference} at the "
                    "same time. Remove it from one of them."
                )
        names_by_charge.update(dict.fromkeys(added, name))
        charges += added
    return tuple(merge_charges(charges))


def _read_lines(text: str, columns: Mapping[str, str]) -> list[SellerCharge]:
    reader = csv.reader(text.lstrip("\ufeff").splitlines(), skipinitialspace=True, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise InvalidInvoice("The invoice is empty.")
        indexes = _find_columns(header, columns)
        rows = [(line, row) for line, row in enumerate(reader, 2) if any(row)]
    except csv.Error as error:
        raise InvalidInvoice(f"Line {reader.line_num} is not CSV: {error}.") from None
    total = rows.pop() if rows and _is_total(rows[-1][1]) else None
    charges = [_read_line(line, row, indexes) for line, row in rows]
    if total is not None:
        _check_total(total, indexes, sum(charge.amount for charge in charges))
    return charges


def _is_total(row: list[str]) -> bool:
    return any(re.sub(r"[^a-z]", "", text.lower()) in _TOTAL_NAMES for text in row)


def _check_total(total: tuple[int, list[str]], indexes: Mapping[str, int], amount: int) -> None:
    """Checks the last line of an invoice: part of it may be missing, or an amount be misread."""
    line, row = total
    expected = _read_amount(line, _select_values(row, indexes))
    if expected != amount:
        raise InvalidInvoice(
            f"Line {line}: the total is ${format_usd(expected)}, and the lines add up to ${format_usd(amount)}."
        )


def merge_charges(charges: Iterable[SellerCharge]) -> Iterator[SellerCharge]:
    """Adds up the charges of each order."""
    merged: dict[tuple[str, str], SellerCharge] = {}
    for charge in charges:
        key = (charge.order_id, "" if charge.order_id else charge.reference)
        if previous := merged.get(key):
            times = [
                at for item in (previous, charge) for at in (item.charged_at, item.last_charged_at) if at is not None
            ]
            charge = SellerCharge(
                order_id=charge.order_id,
                amount=previous.amount + charge.amount,
                reference=previous.reference or charge.reference,
                images=previous.images + charge.images,
                charged_at=min(times, default=None),
                last_charged_at=max(times, default=None),
            )
        merged[key] = charge
    yield from merged.values()


def _find_columns(header: list[str], chosen: Mapping[str, str]) -> dict[str, int]:
    """Returns the index of the column of each field that the invoice has."""
    names = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in header]
    indexes = {
        field: names.index(name)
        for field, candidates in _COLUMNS.items()
        if (name := next((candidate for candidate in candidates if candidate in names), None))
    }
    for field, name in chosen.items():
        if name not in header:
            raise InvalidInvoice(f"The invoice has no column '{name}'{did_you_mean(name, header)}")
        indexes[field] = header.index(name)
        if field == "amount":
            indexes = {key: index for key, index in indexes.items() if key not in ("micros", "cents")}
    has_amount = any(unit in indexes for unit in _UNITS_PER_USD)
    if not has_amount or not ("order" in indexes or "reference" in indexes):
        missing = "an amount" if not has_amount else "an order id or a reference"
        raise InvalidInvoice(
            f"No column is recognised as {missing}. The columns are {', '.join(header)}: choose with --column."
        )
    return indexes


def _read_line(line: int, row: list[str], indexes: Mapping[str, int]) -> SellerCharge:
    values = _select_values(row, indexes)
    order_id, reference = values.get("order", ""), values.get("reference", "")
    if not (order_id or reference):
        raise InvalidInvoice(f"Line {line} has neither an order id nor a reference.")
    if (currency := values.get("currency", "")).upper() not in ("", "USD"):
        raise InvalidInvoice(f"Line {line} is in {currency[:20]}: only USD can be compared.")
    return SellerCharge(
        order_id=order_id,
        reference=reference,
        amount=_read_amount(line, values),
        images=_parse_images(line, values.get("images", "")),
        charged_at=_parse_time(line, values.get("time", "")),
    )


def _select_values(row: list[str], indexes: Mapping[str, int]) -> dict[str, str]:
    return {field: row[index].strip() if index < len(row) else "" for field, index in indexes.items()}


def _read_amount(line: int, values: Mapping[str, str]) -> int:
    unit = next(unit for unit in _UNITS_PER_USD if unit in values)
    return _parse_amount(line, values[unit], _UNITS_PER_USD[unit])


def _parse_amount(line: int, text: str, units_per_usd: int) -> int:
    try:
        micros = Decimal(text.replace("$", "").replace("USD", "").strip()) * MICROS_PER_USD / units_per_usd
        if not micros.is_finite() or micros != int(micros) or abs(micros) > MAX_MICROS:
            raise InvalidOperation
    except (InvalidOperation, ValueError):
        raise InvalidInvoice(
            f"Line {line}: '{text[:20]}' is not an amount of USD with at most six decimals, such as 0.133."
        ) from None
    return int(micros)


def _parse_images(line: int, text: str) -> int:
    if text and not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise InvalidInvoice(f"Line {line}: '{text[:20]}' is not a number of images.")
    return int(text or 0)


def _parse_time(line: int, text: str) -> float | None:
    """Parses seconds since 1970, or a date with or without a time. Without an offset it is UTC."""
    if not text:
        return None
    try:
        if re.fullmatch(r"\d{1,12}(\.\d+)?", text, re.ASCII):
            return float(text)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidInvoice(f"Line {line}: '{text[:30]}' is not a time, such as 2026-11-28T09:30:00Z.") from None
