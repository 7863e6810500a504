"""Lenient reading of sellers' answers: any bytes become a value or an Unclear, never another exception."""

import binascii
import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

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
LARGEST_COUNT = 10**9

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}", re.ASCII)
_WEB_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(?=[/?#]|$)[!-~]{0,8000}", re.IGNORECASE)
_UNSAFE = re.compile(r"[^!-~]+")
_FROM_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
# A multiple of four, so that each slice stands for whole bytes.
_SLICE_CHARACTERS = 1 << 20
_HEADER_NAME = re.compile(r"[a-z0-9-]{1,100}", re.IGNORECASE | re.ASCII)
# Credentials are ours to give, and framing belongs to whoever sends.
_NOT_THEIRS = re.compile(
    r"(proxy-)?authorization|cookie|host|connection|keep-alive|te|trailer|transfer-encoding|content-length|upgrade|expect",
    re.IGNORECASE,
)
_HEADER_VALUE = re.compile(r"[ -~]{0,4000}")
_DATA_URI = re.compile(r"\s*data:(image/[a-z0-9.+-]{1,40});base64,", re.IGNORECASE)

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
    """Headers that a seller wants back, as far as they can be sent and are the seller's to ask for."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {name.lower(): content for name, content in pairs if _can_be_sent(name, content)}


def _can_be_sent(name: str, content: object) -> bool:
    theirs = _HEADER_NAME.fullmatch(name) and not _NOT_THEIRS.fullmatch(name)
    return bool(theirs) and isinstance(content, str) and _HEADER_VALUE.fullmatch(content) is not None


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
    return value if type(value) is int and 0 <= value < LARGEST_COUNT else None


def cost(*told: object) -> tuple[int | None, tuple[Note, ...]]:
    """A seller's USD as micro-USD, from the first place with a sane amount. Any other is not believed, and noted."""
    noted: tuple[Note, ...] = ()
    for value in told:
        amount, note = _amount(value)
        if amount is not None:
            return amount, ()
        noted = noted or ((note,) if note else ())
    return None, noted


def _amount(value: object) -> tuple[int | None, Note | None]:
    if value is None:
        return None, None
    try:
        amount = Decimal(value.strip() if isinstance(value, str) else repr(value))
    except (InvalidOperation, ValueError, RecursionError):
        return None, Note.COST_UNREADABLE
    if not amount.is_finite():
        return None, Note.COST_UNREADABLE
    if not 0 <= amount <= ABSURD_USD:
        return None, Note.COST_ABSURD
    return round(amount * MICROS), None


def usd(value: object, units: int) -> str | None:
    """So many cents, or micro-cents, as a decimal text; None where there is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST_COUNT:
        return None
    return str(Decimal(repr(value)) / units)


def picture(value: object) -> Source | None:
    """An image's address or its bytes, from a URL or a data URI."""
    if not isinstance(value, str):
        return None
    if match := _DATA_URI.match(value):
        data = base64_bytes(value[match.end() :])
        return Inline(data, match[1].lower(), "") if data else None
    address = _UNSAFE.sub(lambda unsafe: quote(unsafe[0], errors="replace"), value.strip())
    return Link(address) if _WEB_URL.fullmatch(address) else None


def base64_bytes(value: object) -> bytes | None:
    """However it is written: with line breaks, in the alphabet for URLs, without its padding, as a data URI."""
    if not isinstance(value, str):
        return None
    payload = value[match.end() :] if (match := _DATA_URI.match(value)) else value
    try:
        return _decoded(payload.encode())
    except (binascii.Error, ValueError):
        return None


def _decoded(payload: bytes) -> bytes | None:
    try:
        return _strictly(payload) or None
    except binascii.Error:
        plain = b"".join(payload.split()).translate(_FROM_URL_ALPHABET).rstrip(b"=")
        return _strictly(plain + b"=" * (-len(plain) % 4)) or None


def _strictly(payload: bytes) -> bytes:
    """Slice by slice: nothing else runs in this process while one is decoded, whichever thread does it."""
    view = memoryview(payload)
    slices = [view[at : at + _SLICE_CHARACTERS] for at in range(0, len(view), _SLICE_CHARACTERS)]
    pieces = [binascii.a2b_base64(one, strict_mode=True) for one in slices]
    if any(len(piece) * 4 != _SLICE_CHARACTERS * 3 for piece in pieces[:-1]):
        raise binascii.Error("padding in the middle")
    return b"".join(pieces)


def delivered(found: list[Source | None], costs: tuple[object, ...], **more: Any) -> Progress:
    """Success, as far as it goes: the pictures that can be read. An empty success is a fault of its own.

    Pictures that are there and cannot be read are another matter: they may be made out at the next look.
    """
    amount, notes = cost(*costs)
    pictures = [one for one in found if one]
    if found and not pictures:
        raise Unclear(FaultKind.UNREADABLE, message="none of the pictures can be read")
    if not pictures:
        fault = Fault(kind=FaultKind.EMPTY, message="success without a picture", cost=amount)
        return Failed(fault=fault, **more)
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
