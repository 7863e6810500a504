"""The kinds of failure of an order, and the one table that decides the consequences of each.

`docs/faults.md` is generated from `VERDICTS`.
"""

import re
from enum import StrEnum

from msgspec import Struct


class FaultKind(StrEnum):
    # Nothing was charged.
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
    # It is unknown whether something was charged.
    RESPONSE_LOST = "response_lost"
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    UNREADABLE = "unreadable"
    UNKNOWN_STATUS = "unknown_status"
    ORDER_CANCELLED = "order_cancelled"
    ORDER_TIMED_OUT = "order_timed_out"
    # Charged, but no image can be delivered.
    NO_IMAGES = "no_images"
    IMAGES_EXPIRED = "images_expired"
    # Charged and made, but the operator's moderation withholds the image.
    IMAGE_WITHHELD = "image_withheld"
    IMAGE_UNMODERATED = "image_unmoderated"


# The seller delivered the image, so these faults say nothing about the seller.
MODERATION_FAULTS = frozenset({FaultKind.IMAGE_WITHHELD, FaultKind.IMAGE_UNMODERATED})
# The client has to change its request.
CONTENT_FAULTS = frozenset({FaultKind.CONTENT_REFUSED, FaultKind.IMAGE_WITHHELD})


class ChargeStatus(StrEnum):
    """Whether the seller charged for an order that ends with this fault."""

    NOT_CHARGED = "not charged"
    UNKNOWN = "unknown"
    CHARGED = "charged"


class PartConsequence(StrEnum):
    """What happens to the part of a job whose attempt ended with this fault."""

    FAIL_OVER = "fail over"
    STOP = "stop, unless the policy says on_unknown: reorder"
    FAIL_PART = "fail the part"
    FINAL = "final: no other seller is tried"


class HealthScope(StrEnum):
    """Whose health statistics the fault counts against."""

    ACCOUNT = "account"
    CELL = "cell"
    NONE = "none"


class PollPolicy(StrEnum):
    """How to treat the fault when it is the answer to a poll of an existing order."""

    RETRY = "poll again until the attempt's deadline"
    RETRY_THREE_TIMES = "poll again, at most three times in a row"
    GRACE_PERIOD = "poll again for 60 s: a new order may not be visible yet"
    ACCEPT_AS_FINAL = "accept it: the order has ended"


class Verdict(Struct, frozen=True):
    """The consequences of a fault.

    `is_transient`: the order itself is valid; it may succeed later or at another seller.
    """

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
    FaultKind.IMAGE_WITHHELD:       Verdict(_CHARGED,     _FAIL_PART, _NONE,    _ACCEPT,  _PERMANENT),
    FaultKind.IMAGE_UNMODERATED:    Verdict(_CHARGED,     _FAIL_PART, _NONE,    _ACCEPT,  _PERMANENT),
}
# fmt: on

FAULT_DESCRIPTIONS: dict[FaultKind, str] = {
    FaultKind.NOT_SENT: "the request was not sent: DNS failure, connection refused, TLS error",
    FaultKind.GATEWAY_BUSY: "the gateway did not send the request: too many concurrent bodies, connections or lookups",
    FaultKind.INVALID_ORDER: "the seller rejected the order as invalid (most 4xx, or a run with invalid input)",
    FaultKind.NOT_FOUND: "404 or 410: the model does not exist (submit) or the order does not exist (poll)",
    FaultKind.INVALID_KEY: "401: the API key is wrong or revoked",
    FaultKind.NO_CREDIT: "402, or the seller's own code for an empty account",
    FaultKind.FORBIDDEN: "403: the API key is not allowed to do this",
    FaultKind.RATE_LIMITED: "429: too many requests",
    FaultKind.UNAVAILABLE: "503 with the seller's own error: it did not accept the order",
    FaultKind.INPUT_MISSING: "an input image or the saved request is missing from the gateway's storage or undecodable",
    FaultKind.CONTENT_REFUSED: "the seller refuses the content",
    FaultKind.ORDER_FAILED: "the seller accepted the order and reports that it failed; failed orders are not charged",
    FaultKind.RESPONSE_LOST: "the request was sent, but no complete response arrived: connection reset, timeout, 408",
    FaultKind.SERVER_ERROR: "a 5xx without the seller's own error, or a redirect: the order may have been accepted",
    FaultKind.OVERLOADED: "a 503 without the seller's own error, perhaps from a proxy that had forwarded the order",
    FaultKind.IDEMPOTENCY_CONFLICT: "409: the idempotency key is in use, so an order exists under it",
    FaultKind.UNREADABLE: "a success status with an unreadable body: invalid JSON, no id or no status",
    FaultKind.UNKNOWN_STATUS: "an order status that the adapter does not recognize",
    FaultKind.ORDER_CANCELLED: "the order was cancelled at the seller, which may charge for work already begun",
    FaultKind.ORDER_TIMED_OUT: "the seller accepted the order, but did not finish it before the attempt's deadline",
    FaultKind.NO_IMAGES: "the seller reports success but delivers no image",
    FaultKind.IMAGES_EXPIRED: "the images were generated, but expired before they could be fetched",
    FaultKind.IMAGE_WITHHELD: "the seller delivered the image, and the operator's moderation refused it",
    FaultKind.IMAGE_UNMODERATED: "the seller delivered the image, and the operator's moderation did not answer",
}


class Fault(Struct, frozen=True, kw_only=True):
    """One failure. `message` is the seller's text: it may quote the prompt or a key, so redact it before it is used.

    Without a readable answer it is the gateway's reason: the name of the network error, or the unreadable field.
    """

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
        """Returns whether money was charged. A cost that the seller reports takes precedence over the default of the
        kind."""
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
    # RunAPI's early pages use 455 for "service unavailable"; it is not a standard status.
    455: FaultKind.SERVER_ERROR,
    503: FaultKind.OVERLOADED,
}


def fault_kind_from_status(status: int) -> FaultKind:
    """Returns the kind of fault for an HTTP status. A seller's own error code is more precise: use it first."""
    if kind := _KINDS_BY_STATUS.get(status):
        return kind
    return FaultKind.INVALID_ORDER if 400 <= status < 500 else FaultKind.SERVER_ERROR


_CONTENT_REFUSAL = re.compile(
    r"content[\s_-]*polic|safety[\s_-]*(system|polic|filter)|usage polic|moderation[\s_-]*(block|system|filter)"
    r"|(blocked|rejected|refused|flagged) (by|in) (the )?moderation|nsfw content|inappropriate content",
    re.IGNORECASE,
)


def detect_content_refusal(kind: FaultKind, *messages: str | None) -> FaultKind:
    """Returns CONTENT_REFUSED if the messages say that the seller refuses the content, else `kind`.

    Only for sellers without an error code for this, and for messages about the order itself. It is a last resort, since
    such texts change.
    """
    is_about_order = kind in (FaultKind.INVALID_ORDER, FaultKind.ORDER_FAILED)
    is_refusal = is_about_order and any(_CONTENT_REFUSAL.search(message) for message in messages if message)
    return FaultKind.CONTENT_REFUSED if is_refusal else kind
