"""What can go wrong with an order, in our words, and what is done about each: one table decides every failure.

`docs/faults.md` is generated from `VERDICTS`.
"""

import re
from enum import StrEnum

from msgspec import Struct


class FaultKind(StrEnum):
    # Nothing can have been bought.
    NOT_SENT = "not_sent"
    NO_ROOM = "no_room"
    BAD_ORDER = "bad_order"
    NOT_FOUND = "not_found"
    BAD_KEY = "bad_key"
    NO_CREDIT = "no_credit"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    INPUT_MISSING = "input_missing"
    CONTENT_REFUSED = "content_refused"
    FAILED = "failed"
    # Nobody can tell from here whether something was bought.
    LOST = "lost"
    BROKEN = "broken"
    OVERLOADED = "overloaded"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"
    UNKNOWN_WORD = "unknown_word"
    CANCELLED = "cancelled"
    OVERDUE = "overdue"
    # Paid for, and not to be had.
    EMPTY = "empty"
    EXPIRED = "expired"


class Bought(StrEnum):
    """Whether money may have been spent when an order's submit, or the order itself, ends this way."""

    NO = "no"
    PERHAPS = "perhaps"
    YES = "yes"


class Then(StrEnum):
    """What becomes of the part of the job that the attempt was for."""

    FAIL_OVER = "fail over"
    STOP = "stop, unless the policy says on_unknown: reorder"
    FAIL = "the part fails"
    FINAL = "final: no other seller is asked"


class Blame(StrEnum):
    """Whose health it counts against."""

    ACCOUNT = "account"
    CELL = "cell"
    NOBODY = "nobody"


class Patience(StrEnum):
    """What to make of it when it is the answer to a question about an order that was placed before."""

    ASK_AGAIN = "ask again until the attempt's deadline"
    THREE_TIMES = "ask again, three times in a row at most"
    GRACE = "ask again for 60 s: a new order may not be visible yet"
    BELIEVE = "believe it: the order has ended"


class Verdict(Struct, frozen=True):
    """`passes`: the same order may succeed later, or at another seller; the order itself is correct."""

    bought: Bought
    then: Then
    blame: Blame
    when_asking: Patience
    passes: bool


_NO, _PERHAPS, _YES = Bought.NO, Bought.PERHAPS, Bought.YES
_OVER, _STOP, _FAIL, _FINAL = Then.FAIL_OVER, Then.STOP, Then.FAIL, Then.FINAL
_ACCOUNT, _CELL, _NOBODY = Blame.ACCOUNT, Blame.CELL, Blame.NOBODY
_AGAIN, _THRICE, _GRACE, _BELIEVE = Patience.ASK_AGAIN, Patience.THREE_TIMES, Patience.GRACE, Patience.BELIEVE
_PASSES, _STAYS = True, False

# fmt: off
VERDICTS: dict[FaultKind, Verdict] = {
    FaultKind.NOT_SENT:         Verdict(_NO,      _OVER,  _ACCOUNT, _AGAIN,   _PASSES),
    FaultKind.NO_ROOM:          Verdict(_NO,      _OVER,  _NOBODY,  _AGAIN,   _PASSES),
    FaultKind.BAD_ORDER:        Verdict(_NO,      _OVER,  _NOBODY,  _AGAIN,   _STAYS),
    FaultKind.NOT_FOUND:        Verdict(_NO,      _OVER,  _CELL,    _GRACE,   _STAYS),
    FaultKind.BAD_KEY:          Verdict(_NO,      _OVER,  _ACCOUNT, _AGAIN,   _PASSES),
    FaultKind.NO_CREDIT:        Verdict(_NO,      _OVER,  _ACCOUNT, _AGAIN,   _PASSES),
    FaultKind.FORBIDDEN:        Verdict(_NO,      _OVER,  _ACCOUNT, _AGAIN,   _PASSES),
    FaultKind.RATE_LIMITED:     Verdict(_NO,      _OVER,  _ACCOUNT, _AGAIN,   _PASSES),
    FaultKind.UNAVAILABLE:      Verdict(_NO,      _OVER,  _ACCOUNT, _AGAIN,   _PASSES),
    FaultKind.INPUT_MISSING:    Verdict(_NO,      _FINAL, _NOBODY,  _AGAIN,   _PASSES),
    FaultKind.CONTENT_REFUSED:  Verdict(_NO,      _FINAL, _NOBODY,  _BELIEVE, _STAYS),
    FaultKind.FAILED:           Verdict(_NO,      _OVER,  _CELL,    _BELIEVE, _STAYS),
    FaultKind.LOST:             Verdict(_PERHAPS, _STOP,  _CELL,    _AGAIN,   _PASSES),
    FaultKind.BROKEN:           Verdict(_PERHAPS, _STOP,  _CELL,    _AGAIN,   _PASSES),
    FaultKind.OVERLOADED:       Verdict(_PERHAPS, _STOP,  _ACCOUNT, _AGAIN,   _PASSES),
    FaultKind.CONFLICT:         Verdict(_PERHAPS, _STOP,  _NOBODY,  _AGAIN,   _STAYS),
    FaultKind.UNREADABLE:       Verdict(_PERHAPS, _STOP,  _CELL,    _THRICE,  _STAYS),
    FaultKind.UNKNOWN_WORD:     Verdict(_PERHAPS, _STOP,  _CELL,    _THRICE,  _STAYS),
    FaultKind.CANCELLED:        Verdict(_PERHAPS, _STOP,  _NOBODY,  _BELIEVE, _STAYS),
    FaultKind.OVERDUE:          Verdict(_PERHAPS, _STOP,  _CELL,    _BELIEVE, _STAYS),
    FaultKind.EMPTY:            Verdict(_YES,     _OVER,  _CELL,    _BELIEVE, _STAYS),
    FaultKind.EXPIRED:          Verdict(_YES,     _FAIL,  _CELL,    _BELIEVE, _STAYS),
}
# fmt: on

MEANINGS: dict[FaultKind, str] = {
    FaultKind.NOT_SENT: "no byte of the request left: name not found, refused, no TLS",
    FaultKind.NO_ROOM: "it stayed here: too many large bodies, connections or lookups at once",
    FaultKind.BAD_ORDER: "the seller finds the order itself wrong (most 4xx, or a run that failed its input checks)",
    FaultKind.NOT_FOUND: "404 or 410: no such model when ordering, no such order when asking",
    FaultKind.BAD_KEY: "401: our key is wrong or revoked",
    FaultKind.NO_CREDIT: "402, or the seller's own word for an empty account",
    FaultKind.FORBIDDEN: "403: our key may not do this",
    FaultKind.RATE_LIMITED: "429: too fast",
    FaultKind.UNAVAILABLE: "503 in the seller's own words: it did not take the order",
    FaultKind.INPUT_MISSING: "what the order is made of is gone from our own storage: an input image, or the request",
    FaultKind.CONTENT_REFUSED: "the seller refuses the content",
    FaultKind.FAILED: "the seller took the order and says that it failed; failed orders are not charged",
    FaultKind.LOST: "the request left and no whole answer came back: reset, timeout, 408",
    FaultKind.BROKEN: "a bare 5xx or a redirect: the order may have been taken before it broke",
    FaultKind.OVERLOADED: "a bare 503, perhaps from a proxy that had passed the order on",
    FaultKind.CONFLICT: "409: our idempotency key is in use, so something was ordered under it",
    FaultKind.UNREADABLE: "a success that cannot be read: no JSON, no id, no status",
    FaultKind.UNKNOWN_WORD: "a status word that is in no table of ours",
    FaultKind.CANCELLED: "the order was cancelled at the seller, which may bill what had begun",
    FaultKind.OVERDUE: "taken by the seller and still not finished at the attempt's deadline",
    FaultKind.EMPTY: "the seller says success and delivers no picture",
    FaultKind.EXPIRED: "pictures were made and could not be fetched before they expired",
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
    def bought(self) -> Bought:
        """What the seller says it charged outranks what usually follows from a fault of this kind."""
        return Bought.YES if self.cost else self.verdict.bought


_BY_STATUS = {
    401: FaultKind.BAD_KEY,
    402: FaultKind.NO_CREDIT,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.NOT_FOUND,
    408: FaultKind.LOST,
    409: FaultKind.CONFLICT,
    410: FaultKind.NOT_FOUND,
    429: FaultKind.RATE_LIMITED,
    # RunAPI's early pages use 455 for "service unavailable"; to everybody else it means nothing.
    455: FaultKind.BROKEN,
    503: FaultKind.OVERLOADED,
}


def kind_of_status(status: int) -> FaultKind:
    """What an HTTP status says by itself. A seller's own code, where it has one, says it better."""
    if kind := _BY_STATUS.get(status):
        return kind
    return FaultKind.BAD_ORDER if 400 <= status < 500 else FaultKind.BROKEN


_REFUSAL = re.compile(
    r"content[\s_-]*polic|safety[\s_-]*(system|polic|filter)|usage polic|moderation[\s_-]*(block|system|filter)"
    r"|(blocked|rejected|refused|flagged) (by|in) (the )?moderation|nsfw content|inappropriate content",
    re.IGNORECASE,
)


def unless_refused(kind: FaultKind, *words: str | None) -> FaultKind:
    """The kind, unless a seller that has no code for it says in so many words that it refuses the content.

    The last resort, since words change; and only for what the seller says of the order itself.
    """
    about_the_order = kind in (FaultKind.BAD_ORDER, FaultKind.FAILED)
    refused = about_the_order and any(_REFUSAL.search(said) for said in words if said)
    return FaultKind.CONTENT_REFUSED if refused else kind
