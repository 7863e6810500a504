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


class RouteKind(StrEnum):
    """The exchanges that a rule may name, in the gateway's words."""

    SUBMIT = "submit"
    POLL = "poll"
    SEARCH = "find"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    ACCOUNT = "account"


class InjectedFault(StrEnum):
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
    HALF_SIZE = "downgrade"
    EXPIRED_URL = "expired_url"
    IGNORE_IDEMPOTENCY_KEY = "ignore_idempotency_key"
    # the callback
    NO_CALLBACK = "no_callback"
    EARLY_CALLBACK = "early_callback"
    DUPLICATE_CALLBACK = "duplicate_callback"
    FORGED_CALLBACK = "forged_callback"


# Shown on the control page. A kind not in WIRE_KINDS works on the order itself.
FAULT_DESCRIPTIONS = {
    InjectedFault.RESET_BEFORE: "the connection is reset before the vendor looks at the request",
    InjectedFault.RESET_AFTER: "the request is carried out, then the connection is reset: the answer is lost",
    InjectedFault.HANG: "nothing comes back for `seconds` (an hour); with `accepted` the request is carried out first",
    InjectedFault.SLOW: "the answer comes `seconds` (2) late; with `drip` its body takes so long, drop by drop",
    InjectedFault.TRUNCATE: "the request is carried out, half the answer's body arrives, then the connection is reset",
    InjectedFault.REFUSE: "the vendor's own refusal with `status` (422): nothing is ordered",
    InjectedFault.STATUS: "an answer with `status` (500), `headers`, `body`; with `accepted` the request is carried out first",
    InjectedFault.HTML: "a proxy's HTML page with `status` (502); with `accepted` the request is carried out first",
    InjectedFault.STUCK: "the order stays in progress for ever",
    InjectedFault.FAIL: "the order fails with `code` and `message`",
    InjectedFault.REFUSE_CONTENT: "the order is refused for its content",
    InjectedFault.EMPTY_OUTPUTS: "the order succeeds, is charged, and has no pictures",
    InjectedFault.PARTIAL: "`missing` (1) of the pictures are not made, and not charged",
    InjectedFault.HALF_SIZE: "pictures are half as wide and high as sold, at the full price",
    InjectedFault.EXPIRED_URL: "links to the pictures have expired already",
    InjectedFault.IGNORE_IDEMPOTENCY_KEY: "a replayed key buys again",
    InjectedFault.NO_CALLBACK: "no callback is sent",
    InjectedFault.EARLY_CALLBACK: "the order completes and its callback arrives before the answer to its submit",
    InjectedFault.DUPLICATE_CALLBACK: "every callback is sent `copies` (2) times",
    InjectedFault.FORGED_CALLBACK: "a callback with a wrong signature and the opposite news comes first",
}
ANY_ROUTE_KINDS = {
    InjectedFault.RESET_BEFORE,
    InjectedFault.RESET_AFTER,
    InjectedFault.HANG,
    InjectedFault.SLOW,
    InjectedFault.TRUNCATE,
    InjectedFault.STATUS,
    InjectedFault.HTML,
}
WIRE_KINDS = ANY_ROUTE_KINDS | {InjectedFault.REFUSE}
# A replay strikes or misses when its key comes back, not when the order is first placed.
ORDER_KINDS = tuple(
    kind for kind in InjectedFault if kind not in WIRE_KINDS and kind is not InjectedFault.IGNORE_IDEMPOTENCY_KEY
)

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
FRAMING_HEADERS = {"content-length", "transfer-encoding"}


class FaultRule(Struct, forbid_unknown_fields=True, kw_only=True):
    """One line of mischief. Without `times` and `probability` it applies for ever."""

    kind: InjectedFault
    vendor: Vendor | None = None
    route: RouteKind | None = None
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

    def find_problem(self) -> str | None:
        """Why this rule could never apply, if so."""
        is_submit_only = self.kind not in ANY_ROUTE_KINDS
        if is_submit_only and self.route not in (None, RouteKind.SUBMIT):
            return f"'{self.kind}' works on orders: leave `route` out or use 'submit'"
        for name, value in self.headers.items():
            if name.lower() in FRAMING_HEADERS:
                return f"'{name}' would break the connection for good: use 'truncate' for an answer that is cut off"
            if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
                return f"'{name}: {value}' cannot be sent as a header"
        return None

    def applies_to(self, vendor: Vendor, route: RouteKind) -> bool:
        # Without a route a rule means the exchange where money moves, so that polls in a test are left alone.
        return self.vendor in (None, vendor) and (self.route or RouteKind.SUBMIT) is route


class FaultInjector:
    """The rules in force. Taking one counts it down; the dice are seeded so that a run can be repeated."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        self.rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> None:
        self.rules.append(rule)

    def clear(self) -> None:
        """No rules, and the dice as at the start."""
        self.rules.clear()
        self._random.seed(self._seed)

    def take_rule(self, vendor: Vendor, route: RouteKind, kinds: Iterable[InjectedFault]) -> FaultRule | None:
        """The first rule that strikes this exchange now, if any."""
        for rule in self.rules:
            if rule.kind in kinds and rule.applies_to(vendor, route) and self._random.random() < rule.probability:
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times == 0:
                        self.rules.remove(rule)
                return rule
        return None

    def take_order_rules(self, vendor: Vendor) -> dict[InjectedFault, FaultRule]:
        """All rules that strike one new order: each kind at most once."""
        rules: dict[InjectedFault, FaultRule] = {}
        for kind in ORDER_KINDS:
            if rule := self.take_rule(vendor, RouteKind.SUBMIT, (kind,)):
                rules[kind] = rule
        return rules
