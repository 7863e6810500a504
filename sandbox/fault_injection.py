"""Fault injection: which rule applies to which request. `fault_middleware` and the vendors carry it out."""

import random
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from sandbox.vendors import RouteKind, Vendor


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
    HALF_SIZE = "half_size"
    EXPIRED_URL = "expired_url"
    IGNORE_IDEMPOTENCY_KEY = "ignore_idempotency_key"
    # the callback
    NO_CALLBACK = "no_callback"
    EARLY_CALLBACK = "early_callback"
    DUPLICATE_CALLBACK = "duplicate_callback"
    FORGED_CALLBACK = "forged_callback"


# Listed by the control routes. A kind that is not in WIRE_KINDS affects the order itself.
FAULT_DESCRIPTIONS = {
    InjectedFault.RESET_BEFORE: "the connection is reset before the vendor reads the request",
    InjectedFault.RESET_AFTER: "the request is processed, then the connection is reset: the response is lost",
    InjectedFault.HANG: "no response for `seconds` (3600); with `accepted` the request is processed first",
    InjectedFault.SLOW: "the response comes `seconds` (2) late; with `in_chunks` its body takes that long",
    InjectedFault.TRUNCATE: "the request is processed, half of the response body is sent, then the connection is reset",
    InjectedFault.REFUSE: "the vendor's own error with `status` (422): nothing is ordered",
    InjectedFault.STATUS: "`status` (500), `headers` and `body`; with `accepted` the request is processed first",
    InjectedFault.HTML: "a proxy's HTML page with `status` (502); with `accepted` the request is processed first",
    InjectedFault.STUCK: "the order stays in progress",
    InjectedFault.FAIL: "the order fails with `code` and `message`",
    InjectedFault.REFUSE_CONTENT: "the vendor refuses the content of the order",
    InjectedFault.EMPTY_OUTPUTS: "the order succeeds, is charged, and has no images",
    InjectedFault.PARTIAL: "`missing` (1) of the images are not generated, and not charged",
    InjectedFault.HALF_SIZE: "images have half the ordered width and height, at the full price",
    InjectedFault.EXPIRED_URL: "URLs of the images have already expired",
    InjectedFault.IGNORE_IDEMPOTENCY_KEY: "a repeated idempotency key creates another order",
    InjectedFault.NO_CALLBACK: "no callback is sent",
    InjectedFault.EARLY_CALLBACK: "the order completes and its callback arrives before the response to its submit",
    InjectedFault.DUPLICATE_CALLBACK: "every callback is sent `copies` (2) times",
    InjectedFault.FORGED_CALLBACK: "a callback with a wrong signature and the opposite status comes first",
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
# IGNORE_IDEMPOTENCY_KEY applies when a key is repeated, not when the order is placed.
ORDER_KINDS = tuple(
    kind for kind in InjectedFault if kind not in WIRE_KINDS and kind is not InjectedFault.IGNORE_IDEMPOTENCY_KEY
)

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
FRAMING_HEADERS = {"content-length", "transfer-encoding"}


class FaultRule(Struct, forbid_unknown_fields=True, kw_only=True):
    """One fault rule. Without `times` and `probability` it applies to every matching request."""

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
    in_chunks: bool = False
    code: str | None = None
    message: str | None = None
    missing: Annotated[int, Meta(ge=1)] = 1
    copies: Annotated[int, Meta(ge=2, le=100)] = 2

    def find_problem(self) -> str | None:
        """Returns why this rule could never apply, or None."""
        is_submit_only = self.kind not in ANY_ROUTE_KINDS
        if is_submit_only and self.route not in (None, RouteKind.SUBMIT):
            return f"'{self.kind}' applies to orders: omit `route` or use 'submit'"
        for name, value in self.headers.items():
            if name.lower() in FRAMING_HEADERS:
                return (
                    f"Invalid header '{name}': it would break the connection. Use 'truncate' for an incomplete response"
                )
            if not HEADER_NAME.fullmatch(name) or not HEADER_VALUE.fullmatch(value):
                return f"Invalid header '{name}: {value}'"
        return None

    def applies_to(self, vendor: Vendor, route: RouteKind) -> bool:
        # Without a route a rule applies to submits, so that polls in a test are not disturbed.
        return self.vendor in (None, vendor) and (self.route or RouteKind.SUBMIT) is route


class FaultInjector:
    """The active rules. Taking one decrements its count; random numbers are seeded, so that runs are repeatable."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._random = random.Random(seed)
        self.rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> None:
        self.rules.append(rule)

    def clear(self) -> None:
        """Removes all rules and resets the random generator."""
        self.rules.clear()
        self._random.seed(self._seed)

    def take_rule(self, vendor: Vendor, route: RouteKind, kinds: Iterable[InjectedFault]) -> FaultRule | None:
        """Returns the first rule that applies to this request, and decrements its count."""
        for rule in self.rules:
            if rule.kind in kinds and rule.applies_to(vendor, route) and self._random.random() < rule.probability:
                if rule.times is not None:
                    rule.times -= 1
                    if rule.times == 0:
                        self.rules.remove(rule)
                return rule
        return None

    def take_order_rules(self, vendor: Vendor) -> dict[InjectedFault, FaultRule]:
        """Returns all rules that apply to a new order, at most one of each kind."""
        rules: dict[InjectedFault, FaultRule] = {}
        for kind in ORDER_KINDS:
            if rule := self.take_rule(vendor, RouteKind.SUBMIT, (kind,)):
                rules[kind] = rule
        return rules
