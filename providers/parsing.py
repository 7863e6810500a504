"""Lenient parsing of sellers' answers: any bytes become a value or a ParseError, never another exception."""

import binascii
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from providers.account_status import AccountStatus
from providers.adapter import Answer, UploadGrant
from providers.faults import ChargeStatus, Fault, FaultKind
from providers.order_status import Failed, NoAnswer, Progress, Ready, StatusNote
from providers.orders import ImageBytes, ImageSource, ImageUrl

MAX_IMAGES = 16
MICROS_PER_USD = 1_000_000
# No order of at most ten images costs more than this: a larger amount is in cents, or wrong.
MAX_PLAUSIBLE_USD = 100
# More than is shown, so that the word that is cut for that can be recognised as incomplete.
MAX_TEXT_CHARACTERS = 2_000
MAX_PLAIN_TEXT_BYTES = 8_000
MAX_MESSAGES = 8
MAX_COUNT = 10**9

_ORDER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}", re.ASCII)
_WEB_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(?=[/?#]|$)[!-~]{0,8000}", re.IGNORECASE)
_UNSAFE_URL_CHARACTERS = re.compile(r"[^!-~]+")
_URLSAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
# The length of a slice: a multiple of four, so that each slice decodes to complete bytes.
_SLICE_CHARACTERS = 1 << 20
_HEADER_NAME = re.compile(r"[a-z0-9-]{1,100}", re.IGNORECASE | re.ASCII)
# Only the gateway sets credentials, and only the HTTP client sets framing headers.
_RESERVED_HEADER = re.compile(
    r"(proxy-)?authorization|cookie|host|connection|keep-alive|te|trailer|transfer-encoding|content-length|upgrade|expect",
    re.IGNORECASE,
)
_HEADER_VALUE = re.compile(r"[ -~]{0,4000}")
_DATA_URI = re.compile(r"\s*data:(image/[a-z0-9.+-]{1,40});base64,", re.IGNORECASE)

JsonObject = Mapping[str, Any]
ResultT = TypeVar("ResultT")


class ParseError(Exception):
    """The answer contains no reliable information."""

    def __init__(self, kind: FaultKind, code: str | None = None, message: str = "") -> None:
        super().__init__(kind, code, message)
        self.fault = Fault(kind=kind, code=code, message=message)


def make_submit_reader(
    read: Callable[[Answer], Progress], parse_error: Callable[[Answer], Fault]
) -> Callable[[Answer], Progress]:
    """Makes a reader for answers to orders: a definite rejection becomes Failed, anything unclear NoAnswer."""

    def read_submit(answer: Answer) -> Progress:
        try:
            if answer.is_success:
                return read(answer)
            fault = parse_error(answer)
        except ParseError as error:
            fault = error.fault
        return Failed(fault=fault) if fault.charge_status is ChargeStatus.NOT_CHARGED else NoAnswer(fault=fault)

    return read_submit


def make_query_reader(
    read: Callable[[Answer], ResultT], parse_error: Callable[[Answer], Fault]
) -> Callable[[Answer], ResultT | NoAnswer]:
    """Makes a reader for answers to queries: a failed query says nothing about the order."""

    def read_query(answer: Answer) -> ResultT | NoAnswer:
        try:
            return read(answer) if answer.is_success else NoAnswer(fault=parse_error(answer))
        except ParseError as error:
            return NoAnswer(fault=error.fault)

    return read_query


def parse_json_object(body: bytes) -> JsonObject:
    """Parses the body as a JSON object."""
    try:
        decoded = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        decoded = _parse_with_stdlib(body)
    if not isinstance(decoded, dict):
        raise ParseError(FaultKind.UNREADABLE, message="the body is not a JSON object")
    return decoded


def _parse_with_stdlib(body: bytes) -> object:
    """Parses with the standard library, which accepts NaN and lone surrogates.

    An image that was paid for must not be lost because of them.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ParseError(FaultKind.UNREADABLE, message="the body is not JSON") from None


def parse_error_body(answer: Answer) -> JsonObject:
    """Returns the body of an error, or an empty object if it is not a JSON object."""
    try:
        return parse_json_object(answer.body)
    except ParseError:
        return {}


def get_object(body: object, *names: str) -> JsonObject:
    """Returns the nested object at the path of `names`, or an empty one."""
    for name in names:
        body = body.get(name) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else {}


def parse_upload_headers(value: object) -> dict[str, str]:
    """Returns the headers that a seller requires for an upload, without invalid and reserved ones."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {name.lower(): content for name, content in pairs if _is_allowed_header(name, content)}


def _is_allowed_header(name: str, content: object) -> bool:
    is_sellers_header = _HEADER_NAME.fullmatch(name) and not _RESERVED_HEADER.fullmatch(name)
    return bool(is_sellers_header) and isinstance(content, str) and _HEADER_VALUE.fullmatch(content) is not None


def make_callback_reader(field: str) -> Callable[[bytes], str | None]:
    """Makes a reader for callbacks: the order id that the body names in this field, or None if it is unreadable."""

    def read_callback(body: bytes) -> str | None:
        try:
            return parse_order_id(parse_json_object(body).get(field))
        except ParseError:
            return None

    return read_callback


def make_upload_grant(upload_id: str | None, url: object, headers: Mapping[str, str]) -> UploadGrant:
    """Returns the grant for an upload, or raises a ParseError if the answer names none."""
    upload_url = parse_image(url)
    if upload_id is None or not isinstance(upload_url, ImageUrl):
        raise ParseError(FaultKind.UNREADABLE, message="the answer has no upload URL")
    return UploadGrant(upload_id, upload_url.url, headers)


def get_list(body: JsonObject, name: str) -> list[Any]:
    value = body.get(name)
    return value if isinstance(value, list) else []


def parse_text(value: object) -> str | None:
    """Returns a non-blank string; integers are converted, since some sellers use numeric ids."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**30:
        return str(value)
    return value if isinstance(value, str) and value.strip() else None


def sanitize_text(value: object) -> str:
    """Returns a seller's text: bounded, one line, printable. Nothing invisible is left inside a word, where it would
    hide a key from redaction."""
    raw_text = (parse_text(value) or "")[: 2 * MAX_TEXT_CHARACTERS]
    visible = (character for character in raw_text if unicodedata.category(character) != "Cf")
    printable = "".join(character if character.isprintable() else " " for character in visible)
    return " ".join(printable.split())[:MAX_TEXT_CHARACTERS]


def list_error_messages(body: JsonObject) -> list[str]:
    """Returns the different texts of an error, wherever it has them: in its object `error`, in itself, and in lists by
    field. Names of fields are omitted, since they may contain anything."""
    parts = (get_object(body, "error"), body)
    members = [part.get(name) for part in parts for name in ("message", "detail", "error", "errors")]
    by_field = [texts for part in parts for texts in get_object(part, "errors").values()]
    return list(dict.fromkeys(text for member in members + by_field for text in _list_texts(member)))


def _list_texts(value: object) -> Iterator[str]:
    """Yields the texts of a member: a text, an object with a message, or a list of both."""
    for entry in value[:MAX_MESSAGES] if isinstance(value, list) else [value]:
        text = (entry.get("message") or entry.get("msg")) if isinstance(entry, dict) else entry
        if sanitized := sanitize_text(text):
            yield sanitized


def join_messages(messages: list[str], answer: Answer) -> str:
    """Joins the texts of an error. Without any, returns a body of plain text. That may be of a proxy, so it decides
    nothing."""
    is_plain_text = answer.headers.get("content-type", "").strip().lower().startswith("text/plain")
    return sanitize_text("; ".join(messages)) or (
        sanitize_text(answer.body[:MAX_PLAIN_TEXT_BYTES].decode(errors="replace")) if is_plain_text else ""
    )


def parse_code(value: object) -> str | None:
    """Returns a seller's error code or status, short enough for a table or a label."""
    return sanitize_text(value)[:80] or None


def parse_order_id(value: object) -> str | None:
    """Returns an id that is safe as part of a path."""
    candidate = parse_text(value)
    return candidate if candidate and _ORDER_ID.fullmatch(candidate) else None


def parse_count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < MAX_COUNT else None


def parse_cost(*candidates: object) -> tuple[int | None, tuple[StatusNote, ...]]:
    """Returns the first plausible amount in USD as micro-USD. Implausible amounts are ignored and noted."""
    notes: tuple[StatusNote, ...] = ()
    for value in candidates:
        amount, note = _parse_amount(value)
        if amount is not None:
            return amount, ()
        notes = notes or ((note,) if note else ())
    return None, notes


def _parse_amount(value: object) -> tuple[int | None, StatusNote | None]:
    if value is None:
        return None, None
    try:
        amount = Decimal(value.strip() if isinstance(value, str) else repr(value))
    except (InvalidOperation, ValueError, RecursionError):
        return None, StatusNote.COST_UNREADABLE
    if not amount.is_finite():
        return None, StatusNote.COST_UNREADABLE
    if not 0 <= amount <= MAX_PLAUSIBLE_USD:
        return None, StatusNote.COST_IMPLAUSIBLE
    return round(amount * MICROS_PER_USD), None


def parse_balance(value: object) -> int | None:
    """Returns an amount in USD as micro-USD; it may be negative."""
    try:
        amount = Decimal(value.strip() if isinstance(value, str) else repr(value))
    except (InvalidOperation, ValueError, RecursionError):
        return None
    return round(amount * MICROS_PER_USD) if amount.is_finite() and abs(amount) < MAX_COUNT else None


def require_balance(*candidates: object) -> AccountStatus:
    """Returns the first readable amount in USD as the balance, or raises a ParseError if there is none."""
    balances = (parse_balance(candidate) for candidate in candidates if candidate is not None)
    balance = next((balance for balance in balances if balance is not None), None)
    if balance is None:
        raise ParseError(FaultKind.UNREADABLE, message="the answer has no balance")
    return AccountStatus(balance)


def convert_to_usd(value: object, units_per_usd: int) -> str | None:
    """Converts cents, or micro-cents, to USD as decimal text; None if `value` is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_COUNT:
        return None
    return str(Decimal(repr(value)) / units_per_usd)


def parse_image(value: object) -> ImageSource | None:
    """Parses a URL or a data URI."""
    if not isinstance(value, str):
        return None
    if match := _DATA_URI.match(value):
        data = decode_base64(value[match.end() :])
        return ImageBytes(data, match[1].lower(), "") if data else None
    address = _UNSAFE_URL_CHARACTERS.sub(lambda unsafe: quote(unsafe[0], errors="replace"), value.strip())
    return ImageUrl(address) if _WEB_URL.fullmatch(address) else None


def decode_base64(value: object) -> bytes | None:
    """Decodes base64 in any notation: with line breaks, URL-safe, without padding, as a data URI."""
    if not isinstance(value, str):
        return None
    payload = value[match.end() :] if (match := _DATA_URI.match(value)) else value
    try:
        return _decode_leniently(payload.encode())
    except (binascii.Error, ValueError):
        return None


def _decode_leniently(payload: bytes) -> bytes | None:
    try:
        return _decode_strictly(payload) or None
    except binascii.Error:
        normalized = b"".join(payload.split()).translate(_URLSAFE_TO_STANDARD).rstrip(b"=")
        return _decode_strictly(normalized + b"=" * (-len(normalized) % 4)) or None


def _decode_strictly(payload: bytes) -> bytes:
    """Decodes slice by slice, since decoding holds the interpreter lock."""
    if len(payload) <= _SLICE_CHARACTERS:
        return binascii.a2b_base64(payload, strict_mode=True)
    view = memoryview(payload)
    slices = [view[start : start + _SLICE_CHARACTERS] for start in range(0, len(view), _SLICE_CHARACTERS)]
    pieces = [binascii.a2b_base64(chunk, strict_mode=True) for chunk in slices]
    if any(len(piece) * 4 != _SLICE_CHARACTERS * 3 for piece in pieces[:-1]):
        raise binascii.Error("padding in the middle")
    return b"".join(pieces)


def status_from_images(entries: list[ImageSource | None], costs: tuple[object, ...], **fields: Any) -> Progress:
    """Returns Ready with the readable images, or Failed with NO_IMAGES if there are none.

    If images exist but none is readable, raises ParseError: the next poll may succeed.
    """
    amount, notes = parse_cost(*costs)
    images = [image for image in entries if image]
    if entries and not images:
        raise ParseError(FaultKind.UNREADABLE, message="none of the images can be read")
    if not images:
        fault = Fault(kind=FaultKind.NO_IMAGES, message="success without an image", cost=amount)
        return Failed(fault=fault, **fields)
    if len(images) < len(entries):
        notes += (StatusNote.IMAGE_UNREADABLE,)
    if len(images) > MAX_IMAGES:
        notes += (StatusNote.EXTRA_IMAGES,)
    return Ready(images=tuple(images[:MAX_IMAGES]), cost=amount, notes=notes, **fields)


def parse_timestamp(value: object) -> float | None:
    """Parses a time with its offset, like `2026-06-01T10:00:00Z`. Returns Unix seconds; None if it is unreadable."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment.timestamp() if moment is not None and moment.tzinfo is not None else None
    except ValueError:
        return None


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Parses Retry-After: a number of seconds, or a date relative to the answer's own Date header."""
    value = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value, re.ASCII):
        return float(value)
    try:
        retry_at, now = parsedate_to_datetime(value), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (retry_at - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
