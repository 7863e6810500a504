"""What can go wrong with an order, in our words, and what is done about each: one table decides every failure.

`docs/faults.md` is generated from `VERDICTS`.
"""

import re
from enum import StrEnum

from msgspec import Struct


class FaultKind(StrEnum):
    # Nothing can have been bought.
    NOT_SENT = "not_sent"
    GATEWAY_BUSY = "gateway_busy"
    INVALID_ORDER = "invalid_order"
    NOT_FOUND = "not_found"
    INVALID_KEY = "invalid_key"
    NO_CREDIT = "no_credit"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INPUT_MISSING = "input_missing"
    CONTENT_REFUSED = "content_refused"
    ORDER_FAILED = "order_failed"
    # Nobody can tell from here whether something was bought.
    RESPONSE_LOST = "response_lost"
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    UNREADABLE = "unreadable"
    UNKNOWN_STATUS = "unknown_status"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_TIMED_OUT = "order_timed_out"
    # Paid for, and not to be had.
    NO_IMAGES = "no_images"
    IMAGES_EXPIRED = "images_expired"


class ChargeStatus(StrEnum):
    """Whether money may have been spent when an order's submit, or the order itself, ends this way."""

    NOT_CHARGED = "not charged"
    UNKNOWN = "unknown"
    CHARGED = "charged"


class PartConsequence(StrEnum):
    """What becomes of the part of the job that the attempt was for."""

    FAIL_OVER = "fail over"
    STOP = "stop, unless the policy says on_unknown: reorder"
    FAIL_PART = "fail the part"
    FINAL = "final: no other seller is tried"


class HealthScope(StrEnum):
    """Whose health it counts against."""

    ACCOUNT = "account"
    CELL = "cell"
    NONE = "none"


class PollPolicy(StrEnum):
    """What to make of it when it is the answer to a question about an order that was placed before."""

    RETRY = "poll again until the attempt's deadline"
    RETRY_THREE_TIMES = "poll again, at most three times in a row"
    GRACE_PERIOD = "poll again for 60 s: a new order may not be visible yet"
    ACCEPT_AS_FINAL = "accept it: the order has ended"


class Verdict(Struct, frozen=True):
    """`is_transient`: the same order may succeed later, or at another seller; the order itself is correct."""

    charge_status: ChargeStatus
    consequence: PartConsequence
    health_scope: HealthScope
    poll_policy: PollPolicy
    is_transient: bool


_NOT_CHARGED, _UNKNOWN, _CHARGED = ChargeStatus.NOT_CHARGED, ChargeStatus.UNKNOWN, ChargeStatus.CHARGED
_FAIL_OVER, _STOP, _FAIL_PART, _FINAL = (
    PartConsequence.FAIL_OVER,
    PartConsequence.STOP,
    PartConsequence.FAIL_PART,
    PartConsequence.FINAL,
)
_ACCOUNT, _CELL, _NONE = HealthScope.ACCOUNT, HealthScope.CELL, HealthScope.NONE
_RETRY, _RETRY_3, _GRACE, _ACCEPT = (
    PollPolicy.RETRY,
    PollPolicy.RETRY_THREE_TIMES,
    PollPolicy.GRACE_PERIOD,
    PollPolicy.ACCEPT_AS_FINAL,
)
_TRANSIENT, _PERMANENT = True, False

# fmt: off
VERDICTS: dict[FaultKind, Verdict] = {
    FaultKind.NOT_SENT:             Verdict(_NOT_CHARGED, _FAIL_OVER, _ACCOUNT, _RETRY,   _TRANSIENT),
    FaultKind.GATEWAY_BUSY:         Verdict(_NOT_CHARGED, _FAIL_OVER, _NONE,    _RETRY,   _TRANSIENT),
    FaultKind.INVALID_ORDER:        Verdict(_NOT_CHARGED, _FAIL_OVER, _NONE,    _RETRY,   _PERMANENT),
    FaultKind.NOT_FOUND:            Verdict(_NOT_CHARGED, _FAIL_OVER, _CELL,    _GRACE,   _PERMANENT),
    FaultKind.INVALID_KEY:          Verdict(_NOT_CHARGED, _FAIL_OVER, _ACCOUNT, _RETRY,   _TRANSIENT),
    FaultKind.NO_CREDIT:            Verdict(_NOT_CHARGED, _FAIL_OVER, _ACCOUNT, _RETRY,   _TRANSIENT),
    FaultKind.FORBIDDEN:            Verdict(_NOT_CHARGED, _FAIL_OVER, _ACCOUNT, _RETRY,   _TRANSIENT),
    FaultKind.RATE_LIMITED:         Verdict(_NOT_CHARGED, _FAIL_OVER, _ACCOUNT, _RETRY,   _TRANSIENT),
    FaultKind.UNAVAILABLE:          Verdict(_NOT_CHARGED, _FAIL_OVER, _ACCOUNT, _RETRY,   _TRANSIENT),
    FaultKind.INPUT_MISSING:        Verdict(_NOT_CHARGED, _FINAL,     _NONE,    _RETRY,   _TRANSIENT),
    FaultKind.CONTENT_REFUSED:      Verdict(_NOT_CHARGED, _FINAL,     _NONE,    _ACCEPT,  _PERMANENT),
    FaultKind.ORDER_FAILED:         Verdict(_NOT_CHARGED, _FAIL_OVER, _CELL,    _ACCEPT,  _PERMANENT),
    FaultKind.RESPONSE_LOST:        Verdict(_UNKNOWN,     _STOP,      _CELL,    _RETRY,   _TRANSIENT),
    FaultKind.SERVER_ERROR:         Verdict(_UNKNOWN,     _STOP,      _CELL,    _RETRY,   _TRANSIENT),
    FaultKind.OVERLOADED:           Verdict(_UNKNOWN,     _STOP,      _ACCOUNT, _RETRY,   _TRANSIENT),
    FaultKind.IDEMPOTENCY_CONFLICT: Verdict(_UNKNOWN,     _STOP,      _NONE,    _RETRY,   _PERMANENT),
    FaultKind.UNREADABLE:           Verdict(_UNKNOWN,     _STOP,      _CELL,    _RETRY_3, _PERMANENT),
    FaultKind.UNKNOWN_STATUS:       Verdict(_UNKNOWN,     _STOP,      _CELL,    _RETRY_3, _PERMANENT),
    FaultKind.ORDER_CANCELLED:      Verdict(_UNKNOWN,     _STOP,      _NONE,    _ACCEPT,  _PERMANENT),
    FaultKind.ORDER_TIMED_OUT:      Verdict(_UNKNOWN,     _STOP,      _CELL,    _ACCEPT,  _PERMANENT),
    FaultKind.NO_IMAGES:            Verdict(_CHARGED,     _FAIL_OVER, _CELL,    _ACCEPT,  _PERMANENT),
    FaultKind.IMAGES_EXPIRED:       Verdict(_CHARGED,     _FAIL_PART, _CELL,    _ACCEPT,  _PERMANENT),
}
# fmt: on

FAULT_DESCRIPTIONS: dict[FaultKind, str] = {
    FaultKind.NOT_SENT: "no byte of the request left: name not found, refused, no TLS",
    FaultKind.GATEWAY_BUSY: "it stayed here: too many large bodies, connections or lookups at once",
    FaultKind.INVALID_ORDER: "the seller finds the order itself wrong (most 4xx, or a run that failed its input checks)",
    FaultKind.NOT_FOUND: "404 or 410: no such model when ordering, no such order when asking",
    FaultKind.INVALID_KEY: "401: our key is wrong or revoked",
    FaultKind.NO_CREDIT: "402, or the seller's own word for an empty account",
    FaultKind.FORBIDDEN: "403: our key may not do this",
    FaultKind.RATE_LIMITED: "429: too fast",
    FaultKind.UNAVAILABLE: "503 in the seller's own words: it did not take the order",
    FaultKind.INPUT_MISSING: "what the order is made of is gone from our own storage: an input image, or the request",
    FaultKind.CONTENT_REFUSED: "the seller refuses the content",
    FaultKind.ORDER_FAILED: "the seller took the order and says that it failed; failed orders are not charged",
    FaultKind.RESPONSE_LOST: "the request left and no whole answer came back: reset, timeout, 408",
    FaultKind.SERVER_ERROR: "a bare 5xx or a redirect: the order may have been taken before it broke",
    FaultKind.OVERLOADED: "a bare 503, perhaps from a proxy that had passed the order on",
    FaultKind.IDEMPOTENCY_CONFLICT: "409: our idempotency key is in use, so something was ordered under it",
    FaultKind.UNREADABLE: "a success that cannot be read: no JSON, no id, no status",
    FaultKind.UNKNOWN_STATUS: "a status word that is in no table of ours",
    FaultKind.ORDER_CANCELLED: "the order was cancelled at the seller, which may bill what had begun",
    FaultKind.ORDER_TIMED_OUT: "taken by the seller and still not finished at the attempt's deadline",
    FaultKind.NO_IMAGES: "the seller says success and delivers no picture",
    FaultKind.IMAGES_EXPIRED: "pictures were made and could not be fetched before they expired",
}


class Fault(Struct, frozen=True, kw_only=True):
    """One thing that went wrong. `message` is the seller's text: for operators' eyes, never for a log or a caller."""

    kind: FaultKind
    status: int | None = None
    code: str | None = None
    message: str = ""
    retry_after: float | None = None
    cost: int | None = None

    @property
    def verdict(self) -> Verdict:
        return VERDICTS[self.kind]

    @property
    def charge_status(self) -> ChargeStatus:
        """What the seller says it charged outranks what usually follows from a fault of this kind."""
        return ChargeStatus.CHARGED if self.cost else self.verdict.charge_status


_KINDS_BY_STATUS = {
    401: FaultKind.INVALID_KEY,
    402: FaultKind.NO_CREDIT,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.NOT_FOUND,
    408: FaultKind.RESPONSE_LOST,
    409: FaultKind.IDEMPOTENCY_CONFLICT,
    410: FaultKind.NOT_FOUND,
    429: FaultKind.RATE_LIMITED,
    # RunAPI's early pages use 455 for "service unavailable"; to everybody else it means nothing.
    455: FaultKind.SERVER_ERROR,
    503: FaultKind.OVERLOADED,
}


def fault_kind_from_status(status: int) -> FaultKind:
    """What an HTTP status says by itself. A seller's own code, where it has one, says it better."""
    if kind := _KINDS_BY_STATUS.get(status):
        return kind
    return FaultKind.INVALID_ORDER if 400 <= status < 500 else FaultKind.SERVER_ERROR


_CONTENT_REFUSAL = re.compile(
    r"content[\s_-]*polic|safety[\s_-]*(system|polic|filter)|usage polic|moderation[\s_-]*(block|system|filter)"
    r"|(blocked|rejected|refused|flagged) (by|in) (the )?moderation|nsfw content|inappropriate content",
    re.IGNORECASE,
)


def detect_content_refusal(kind: FaultKind, *messages: str | None) -> FaultKind:
    """The kind, unless a seller that has no code for it says in so many words that it refuses the content.

    The last resort, since words change; and only for what the seller says of the order itself.
    """
    is_about_order = kind in (FaultKind.INVALID_ORDER, FaultKind.ORDER_FAILED)
    is_refusal = is_about_order and any(_CONTENT_REFUSAL.search(message) for message in messages if message)
    return FaultKind.CONTENT_REFUSED if is_refusal else kind
