"""Faults on demand: which rule strikes which exchange. What it does is up to `interference.py` and the vendors."""

import random
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType


class Vendor(StrEnum):
    RUNFLOW = "runflow"
    RUNAPI = "runapi"
    OPENAI = "openai"


class Route(StrEnum):
    """The exchanges that a rule may name, in the gateway's words."""

    SUBMIT = "submit"
    POLL = "poll"
    FIND = "find"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    ACCOUNT = "account"


class Kind(StrEnum):
    # the connection
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    HANG = "hang"
    SLOW = "slow"
    TRUNCATE = "truncate"
    # the answer
    REFUSE = "refuse"
    STATUS = "status"
    HTML = "html"
    # the order
    STUCK = "stuck"
    FAIL = "fail"
    REFUSE_CONTENT = "refuse_content"
    EMPTY_OUTPUTS = "empty_outputs"
    PARTIAL = "partial"
    DOWNGRADE = "downgrade"
    EXPIRED_URL = "expired_url"
    IGNORE_IDEMPOTENCY_KEY = "ignore_idempotency_key"
    # the callback
    NO_CALLBACK = "no_callback"
    EARLY_CALLBACK = "early_callback"
    DUPLICATE_CALLBACK = "duplicate_callback"
    FORGED_CALLBACK = "forged_callback"


# Shown on the control page. A kind not in WIRE_KINDS works on the order itself.
MEANING = {
    Kind.RESET_BEFORE: "the connection is reset before the vendor looks at the request",
    Kind.RESET_AFTER: "the request is carried out, then the connection is reset: the answer is lost",
    Kind.HANG: "nothing comes back for `seconds` (an hour); with `accepted` the request is carried out first",
    Kind.SLOW: "the answer comes `seconds` (2) late; with `drip` its body takes so long, drop by drop",
    Kind.TRUNCATE: "the request is carried out, half the answer's body arrives, then the connection is reset",
    Kind.REFUSE: "the vendor's own refusal with `status` (422): nothing is ordered",
    Kind.STATUS: "an answer with `status` (500), `headers`, `body`; with `accepted` the request is carried out first",
    Kind.HTML: "a proxy's HTML page with `status` (502); with `accepted` the request is carried out first",
    Kind.STUCK: "the order stays in progress for ever",
    Kind.FAIL: "the order fails with `code` and `message`",
    Kind.REFUSE_CONTENT: "the order is refused for its content",
    Kind.EMPTY_OUTPUTS: "the order succeeds, is charged, and has no pictures",
    Kind.PARTIAL: "`missing` (1) of the pictures are not made, and not charged",
    Kind.DOWNGRADE: "pictures are half as wide and high as sold, at the full price",
    Kind.EXPIRED_URL: "links to the pictures have expired already",
    Kind.IGNORE_IDEMPOTENCY_KEY: "a replayed key buys again",
    Kind.NO_CALLBACK: "no callback is sent",
    Kind.EARLY_CALLBACK: "the order completes and its callback arrives before the answer to its submit",
    Kind.DUPLICATE_CALLBACK: "every callback is sent `copies` (2) times",
    Kind.FORGED_CALLBACK: "a callback with a wrong signature and the opposite news comes first",
}
ON_ANY_ROUTE = {
    Kind.RESET_BEFORE,
    Kind.RESET_AFTER,
    Kind.HANG,
    Kind.SLOW,
    Kind.TRUNCATE,
    Kind.STATUS,
    Kind.HTML,
}
WIRE_KINDS = ON_ANY_ROUTE | {Kind.REFUSE}
# A replay strikes or misses when its key comes back, not when the order is first placed.
ORDER_KINDS = tuple(kind for kind in Kind if kind not in WIRE_KINDS and kind is not Kind.IGNORE_IDEMPOTENCY_KEY)

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
FRAMING = {"content-length", "transfer-encoding"}


class Rule(Struct, forbid_unknown_fields=True, kw_only=True):
    """One line of mischief. Without `times` and `probability` it applies for ever."""

    kind: Kind
    vendor: Vendor | None = None
    route: Route | None = None
    times: Annotated[int, Meta(ge=1)] | None = None
    probability: Annotated[float, Meta(gt=0, le=1)] = 1.0
    status: Annotated[int, Meta(ge=200, le=599)] | UnsetType = UNSET
    headers: dict[str, str] = {}
    body: str | None = None
    seconds: Annotated[float, Meta(ge=0, le=86_400)] | UnsetType = UNSET
    accepted: bool = False
    drip: bool = False
    code: str | None = None
    message: str | None = None
    missing: Annotated[int, Meta(ge=1)] = 1
    copies: Annotated[int, Meta(ge=2, le=100)] = 2

    def problem(self) -> str | None:
        """Why this rule could never apply, if so."""
        submit_only = self.kind not in ON_ANY_ROUTE
        if submit_only and self.route not in (None, Route.SUBMIT):
            return f"'{self.kind}' works on orders: leave `route` out or use 'submit'"
        for name, value in self.headers.items():
            if name.lower() in FRAMING:
                return f"'{name}' would break the connection for good: use 'truncate' for an answer that is cut off"
            if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
                return f"'{name}: {value}' cannot be sent as a header"
        return None

    def applies(self, vendor: Vendor, route: Route) -> bool:
        # Without a route a rule means the exchange where money moves, so that polls in a test are left alone.
        return self.vendor in (None, vendor) and (self.route or Route.SUBMIT) is route


class Mischief:
    """The rules in force. Taking one counts it down; the dice are seeded so that a run can be repeated."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._dice = random.Random(seed)
        self.rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        self.rules.append(rule)

    def clear(self) -> None:
        """No rules, and the dice as at the start."""
        self.rules.clear()
        self._dice.seed(self._seed)

    def take(self, vendor: Vendor, route: Route, kinds: Iterable[Kind]) -> Rule | None:
        """The first rule that strikes this exchange now, if any."""
        for rule in self.rules:
            if rule.kind in kinds and rule.applies(vendor, route) and self._dice.random() < rule.probability:
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times == 0:
                        self.rules.remove(rule)
                return rule
        return None

    def take_for_order(self, vendor: Vendor) -> dict[Kind, Rule]:
        """All rules that strike one new order: each kind at most once."""
        struck: dict[Kind, Rule] = {}
        for kind in ORDER_KINDS:
            if rule := self.take(vendor, Route.SUBMIT, (kind,)):
                struck[kind] = rule
        return struck
