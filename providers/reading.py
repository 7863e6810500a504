"""Lenient reading of sellers' answers: any bytes become a value or an Unclear, never another exception."""

import binascii
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import msgspec

from providers.faults import Bought, Fault, FaultKind
from providers.orders import Inline, Link, Source
from providers.progress import Failed, Note, Progress, Ready, Unanswered
from providers.spec import Answer

MOST_PICTURES = 16
MICROS = 1_000_000
# No order of at most ten pictures costs this much: such a figure is cents for dollars, or nonsense.
ABSURD_USD = 100
SHOWN_TEXT = 500

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}", re.ASCII)
_WEB_URL = re.compile(r"https?://[!-.0-~][!-~]{0,8000}")
_HEADER_NAME = re.compile(r"(?!authorization$|host$|cookie$)[a-z0-9-]{1,100}", re.IGNORECASE | re.ASCII)
_HEADER_VALUE = re.compile(r"[ -~]{0,4000}")
_DATA_URI = re.compile(r"data:(image/[a-z0-9.+-]{1,40});base64,")

Object = Mapping[str, Any]
P = TypeVar("P")


class Unclear(Exception):
    """Raised while reading: this answer says nothing that can be relied on."""

    def __init__(self, kind: FaultKind, code: str | None = None, message: str = "") -> None:
        super().__init__(kind, code, message)
        self.fault = Fault(kind=kind, code=code, message=message)


def ordering(read: Callable[[Answer], Progress], error: Callable[[Answer], Fault]) -> Callable[[Answer], Progress]:
    """Reads the answer to a submit: a clear refusal is a failed order, anything else unclear leaves it open."""

    def read_submit(answer: Answer) -> Progress:
        try:
            if answer.success:
                return read(answer)
            fault = error(answer)
        except Unclear as unclear:
            fault = unclear.fault
        return Failed(fault=fault) if fault.bought is Bought.NO else Unanswered(fault=fault)

    return read_submit


def asking(read: Callable[[Answer], P], error: Callable[[Answer], Fault]) -> Callable[[Answer], P | Unanswered]:
    """Reads the answer to a question: a question that fails says nothing about the order."""

    def read_answer(answer: Answer) -> P | Unanswered:
        try:
            return read(answer) if answer.success else Unanswered(fault=error(answer))
        except Unclear as unclear:
            return Unanswered(fault=unclear.fault)

    return read_answer


def document(body: bytes) -> Object:
    """The body as a JSON object."""
    try:
        decoded = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        decoded = _python_json(body)
    if not isinstance(decoded, dict):
        raise Unclear(FaultKind.UNREADABLE, message="the body is not a JSON object")
    return decoded


def _python_json(body: bytes) -> object:
    """Python's own reader takes NaN and lone surrogates, which must not cost us a picture that was paid for."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Unclear(FaultKind.UNREADABLE, message="the body is not JSON") from None


def child(body: object, *names: str) -> Object:
    """The object found by following names; an empty one where there is none."""
    for name in names:
        body = body.get(name) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else {}


def headers(value: object) -> dict[str, str]:
    """Headers that a seller wants back, as far as they can be sent: no control characters, nothing of ours."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {
        name.lower(): content
        for name, content in pairs
        if _HEADER_NAME.fullmatch(name) and isinstance(content, str) and _HEADER_VALUE.fullmatch(content)
    }


def items(body: Object, name: str) -> list[Any]:
    value = body.get(name)
    return value if isinstance(value, list) else []


def text(value: object) -> str | None:
    """A string worth having; a number counts, as some sellers number what others name."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30:
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def shown(value: object) -> str:
    """A seller's words for an operator: short, on one line, printable."""
    words = text(value) or ""
    clean = "".join(letter if letter.isprintable() else " " for letter in words[: 2 * SHOWN_TEXT])
    return " ".join(clean.split())[:SHOWN_TEXT]


def word(value: object) -> str | None:
    """A seller's code or status word, short enough for a table or a label."""
    return shown(value)[:80] or None


def order_id(value: object) -> str | None:
    """An id that may safely become part of a path."""
    found = text(value)
    return found if found and _ID.fullmatch(found) else None


def count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 10**9 else None


def cost(value: object) -> tuple[int | None, tuple[Note, ...]]:
    """A seller's USD as micro-USD. What is no sane amount is not believed, and noted."""
    if value is None:
        return None, ()
    try:
        amount = Decimal(value.strip() if isinstance(value, str) else repr(value))
    except (InvalidOperation, ValueError, RecursionError):
        return None, (Note.COST_UNREADABLE,)
    if not amount.is_finite():
        return None, (Note.COST_UNREADABLE,)
    if not 0 <= amount <= ABSURD_USD:
        return None, (Note.COST_ABSURD,)
    return round(amount * MICROS), ()


def picture(value: object) -> Source | None:
    """An image's address or its bytes, from a URL or a data URI."""
    if not isinstance(value, str):
        return None
    if match := _DATA_URI.match(value):
        data = base64_bytes(value[match.end() :])
        return Inline(data, match[1], "") if data else None
    return Link(value) if _WEB_URL.fullmatch(value) else None


def base64_bytes(value: object) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return binascii.a2b_base64(value.encode(), strict_mode=True) or None
    except (binascii.Error, ValueError):
        return None


def delivered(found: list[Source | None], charge: object, **more: Any) -> Progress:
    """Success, as far as it goes: the pictures that can be read; an empty success is a fault of its own."""
    amount, notes = cost(charge)
    pictures = [one for one in found if one]
    if not pictures:
        fault = Fault(kind=FaultKind.EMPTY, message="success without a picture", cost=amount)
        return Failed(fault=fault, id=more.get("id"), reference=more.get("reference"))
    if len(pictures) < len(found):
        notes += (Note.PICTURE_UNREADABLE,)
    if len(pictures) > MOST_PICTURES:
        notes += (Note.PICTURES_SURPLUS,)
    return Ready(pictures=tuple(pictures[:MOST_PICTURES]), cost=amount, notes=notes, **more)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from a number or from a date measured against the answer's own Date; None if it says neither."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value, re.ASCII):
        return float(value)
    try:
        wanted, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (wanted - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
